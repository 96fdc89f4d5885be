package cost

import (
	"fmt"
	"strings"
	"time"
)

// Explain says in a few lines what the model does and why, for people.
func (m Model) Explain() string {
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(fmt.Sprintf(format+"\n", args...)) }
	if f := m.Figures; f.Device != "" {
		line("%s: registering and deregistering costs %v, copying %v (measured in %v, touched memory, 4 KiB pages)",
			f.Device, f.Register, f.Copy, round(f.Took))
	} else {
		line("no device was measured")
	}
	line("memory that is registered is used as it is")
	switch m.Policy {
	case Never:
		line("register=%q: other memory is copied, whatever its size", m.Policy)
	case Always:
		line("register=%q: other memory is registered for each transfer, whatever its size", m.Policy)
	case Require:
		line("register=%q: other memory is refused", m.Policy)
	default:
		line("register=%q: %s", m.Policy, m.explainThreshold())
	}
	if m.RegisterFrom == 0 && m.Figures.Device != "" {
		for _, uses := range [...]int{2, 10, 100} {
			line("used %d times, registering it yourself pays %s", uses, from(m.Threshold(uses)))
		}
	}
	return b.String()
}

func (m Model) explainThreshold() string {
	n, how := m.Threshold(1), "measured"
	if m.RegisterFrom != 0 {
		how = "as configured"
	}
	if n == Unlimited {
		return "other memory is copied, whatever its size: for one transfer registering does not cost less"
	}
	return fmt.Sprintf("other memory is copied below %s and registered for the transfer from there on (%s)", size(n), how)
}

func from(n uint64) string {
	if n == Unlimited {
		return "at no size"
	}
	return "from " + size(n) + " on"
}

// String is the fixed part and what each MiB adds.
func (l Line) String() string {
	return fmt.Sprintf("%v + %v for each MiB", round(l.At(0)), round(time.Duration(l.PerByte*(1<<20))))
}

func round(d time.Duration) time.Duration {
	for unit := time.Second; unit > 1; unit /= 10 {
		if d >= 100*unit {
			return d.Round(unit)
		}
	}
	return d
}

func size(n uint64) string {
	for _, u := range [...]struct {
		bytes uint64
		name  string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.bytes {
			return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(n)/float64(u.bytes)), ".0") + " " + u.name
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
