package tier

import "time"

// nudge tells the keeper that there is something to write.
func (d *Disk) nudge() {
	select {
	case d.nudges <- struct{}{}:
	default:
	}
}

// retryAfter is how long the keeper waits after the journal could not be written.
const retryAfter = time.Second

// keep is the goroutine that writes what nobody waits for: batches, removals, snapshots.
func (d *Disk) keep() {
	defer d.keeper.Done()
	for {
		select {
		case <-d.stop:
			return
		case <-d.nudges:
		}
		if d.opts.Durability == Batch && !d.pause(d.opts.BatchEvery) {
			return
		}
		if err := d.bringOn(); err != nil {
			d.log1("the journal of the disk tier cannot be written: " + err.Error())
			if d.log.Err() == nil {
				if !d.pause(retryAfter) {
					return
				}
				d.nudge()
			}
		}
	}
}

// pause waits; false when the disk is being closed.
func (d *Disk) pause(t time.Duration) bool {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-d.stop:
		return false
	case <-timer.C:
		return true
	}
}

func (d *Disk) bringOn() (err error) {
	if d.opts.Durability == None {
		err = d.noted(d.log.Write(d.log.Last()))
	} else {
		err = d.syncAll()
	}
	if err != nil {
		return err
	}
	d.space.sweep()
	if d.filing.due(d) {
		err = d.snapshot()
	}
	return err
}
