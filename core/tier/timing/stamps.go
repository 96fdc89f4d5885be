package timing

// Stamps are the four readings of an operation. See the package's text for what each is.
type Stamps struct{ T0, T1, T2, T3 int64 }

// Device is the time from the first submission to the last completion.
func (s Stamps) Device() int64 { return s.T2 - s.T1 }

// Host is the rest: before the first submission and after the last completion.
func (s Stamps) Host() int64 { return (s.T1 - s.T0) + (s.T3 - s.T2) }

// Total is the whole operation. Host + Device = Total whatever the stamps are: the same four numbers are added.
func (s Stamps) Total() int64 { return s.T3 - s.T0 }

// Ordered says whether the stamps run forwards.
func (s Stamps) Ordered() bool { return s.T0 <= s.T1 && s.T1 <= s.T2 && s.T2 <= s.T3 }

// Hit are the stamps of an operation that no device had a part in.
func Hit(t0, t3 int64) Stamps { return Stamps{t0, t0, t0, t3} }

// Follow are the stamps of an operation that waited for a read which another had begun. It was not in the device before
// it came: t1 is its own t0 where that is later. Who comes when the leader's last completion is in waits for no device.
func Follow(t0 int64, leader Stamps, t3 int64) Stamps {
	t1 := max(t0, leader.T1)
	return Stamps{t0, t1, max(t1, leader.T2), t3}
}

// End sets t3, and what an operation that failed or was cancelled has not reached: without a submission everything was
// host, without a last completion everything since the submission was device. 0 stands for not reached.
func (s *Stamps) End(t3 int64) {
	switch {
	case s.T1 == 0:
		s.T1, s.T2 = t3, t3
	case s.T2 == 0:
		s.T2 = t3
	}
	s.T3 = t3
}
