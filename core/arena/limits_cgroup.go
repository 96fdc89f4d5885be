package arena

import (
	"bufio"
	"bytes"
	"os"
	"path"
	"strconv"
	"strings"
)

// level is one control group: its directory and the names of its files, which
// differ between the two versions.
type level struct {
	dir string
	*dialect
}

type dialect struct {
	max, high, usage string
	// reclaimable cache is the sum of the first less the sum of the second.
	cache, dirty []string
}

var (
	version1 = &dialect{
		max: "memory.limit_in_bytes", usage: "memory.usage_in_bytes",
		cache: []string{"total_inactive_file", "total_active_file"},
		dirty: []string{"total_dirty", "total_writeback"},
	}
	version2 = &dialect{
		max: "memory.max", high: "memory.high", usage: "memory.current",
		cache: []string{"inactive_file", "active_file"},
		dirty: []string{"file_dirty", "file_writeback"},
	}
)

// groups are the control groups of this process, from its own up to the top
// that can be seen from here.
func (m *memory) groups() (all []level) {
	mounts := cgroupMounts(m.root)
	data, _ := os.ReadFile(m.root + "/proc/self/cgroup")
	for line := range strings.Lines(string(data)) {
		// hierarchy:controllers:path
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		d := version1
		if parts[0] == "0" && parts[1] == "" {
			d = version2
		} else if !hasField(parts[1], "memory") {
			continue
		}
		mount, ok := mounts[d]
		if !ok {
			continue
		}
		for rel := mount.relative(parts[2]); ; rel = path.Dir(rel) {
			all = append(all, level{path.Join(mount.point, rel), d})
			if rel == "/" {
				break
			}
		}
	}
	return all
}

// limited are those that have a limit.
func limited(root string, groups []level) (some []level) {
	for _, l := range groups {
		if l.limit(root) != noLimit {
			some = append(some, l)
		}
	}
	return some
}

func (l level) limit(root string) uint64 { return readLimit(root + path.Join(l.dir, l.max)) }

func (l level) soft(root string) uint64 {
	if l.high == "" {
		return noLimit
	}
	return readLimit(root + path.Join(l.dir, l.high))
}

// headroom is limit less usage, with clean file cache as free.
func (l level) headroom(root string) uint64 {
	limit := l.limit(root)
	usage := readLimit(root + path.Join(l.dir, l.usage))
	if limit == noLimit || usage == noLimit {
		return noLimit
	}
	stat := readFields(root + path.Join(l.dir, "memory.stat"))
	cache, dirty := sum(stat, l.cache), sum(stat, l.dirty)
	usage -= min(usage, cache-min(cache, dirty))
	return limit - min(limit, usage)
}

func sum(fields map[string]uint64, names []string) (n uint64) {
	for _, name := range names {
		n += fields[name]
	}
	return n
}

// cgroupMount is where a hierarchy is mounted, and which group that is.
type cgroupMount struct{ group, point string }

// relative is the way from the mount to a group named by /proc/self/cgroup. In
// a container the group may lie outside of what is mounted; then the mount is
// the nearest that can be seen.
func (c cgroupMount) relative(group string) string {
	group = path.Clean("/" + group)
	if c.group != "/" {
		rest, ok := strings.CutPrefix(group, c.group)
		if !ok || (rest != "" && rest[0] != '/') {
			return "/"
		}
		group = rest
	}
	return path.Clean("/" + group)
}

// cgroupMounts reads /proc/self/mountinfo.
func cgroupMounts(root string) map[*dialect]cgroupMount {
	mounts := map[*dialect]cgroupMount{}
	data, _ := os.ReadFile(root + "/proc/self/mountinfo")
	for line := range strings.Lines(string(data)) {
		// id parent major:minor root point options [optional…] - type source super
		left, right, ok := strings.Cut(line, " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 6 || len(r) < 3 {
			continue
		}
		m := cgroupMount{group: unescape(l[3]), point: unescape(l[4])}
		switch {
		case r[0] == "cgroup2":
			mounts[version2] = m
		case r[0] == "cgroup" && hasField(r[2], "memory"):
			mounts[version1] = m
		}
	}
	return mounts
}

func hasField(list, want string) bool {
	for f := range strings.SplitSeq(list, ",") {
		if f == want {
			return true
		}
	}
	return false
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// readLimit reads a file that holds one number; "max", no file, and v1's
// "as good as infinite" are noLimit.
func readLimit(file string) uint64 {
	data, err := os.ReadFile(file)
	if err != nil {
		return noLimit
	}
	n, err := strconv.ParseUint(string(bytes.TrimSpace(data)), 10, 64)
	if err != nil || n >= 1<<62 {
		return noLimit
	}
	return n
}

// readFields reads lines of a name and a number ("MemTotal:  123 kB").
func readFields(file string) map[string]uint64 {
	data, _ := os.ReadFile(file)
	fields := map[string]uint64{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), " ")
		value, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			fields[strings.TrimSuffix(name, ":")] = n
		}
	}
	return fields
}
