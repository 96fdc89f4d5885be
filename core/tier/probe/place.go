package probe

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// names of file systems, for when /proc does not tell. The three ext share a number.
var names = map[int64]string{
	0x01021994: "tmpfs", 0x858458f6: "ramfs", 0x794c7630: "overlay", 0xef53: "ext4", 0x58465342: "xfs", 0x9123683e: "btrfs",
	0xf2f52010: "f2fs", 0x2fc12fc1: "zfs", 0x6969: "nfs", 0x65735546: "fuse", 0x01021997: "9p", 0xff534d42: "cifs",
	0x958458f6: "hugetlbfs", 0x0bd00bd0: "lustre", 0x00c36400: "ceph", 0xca451a4e: "bcachefs", 0x2011bab0: "exfat",
}

var inMemory = map[string]bool{"tmpfs": true, "ramfs": true, "hugetlbfs": true, "devtmpfs": true, "rootfs": true}

// place is what is under a path.
type place struct {
	fileSystem string
	memory     string
	device     Device
}

const maxDepth = 8 // of file systems on each other

// place looks below a path: through overlays to where they write, and through loop devices to their files.
func (s System) place(path string, fs unix.Statfs_t, depth int) (p place) {
	mount := s.mountOf(path)
	p.fileSystem = mount.kind
	if p.fileSystem == "" {
		p.fileSystem = names[int64(fs.Type)]
	}
	if p.fileSystem == "" {
		p.fileSystem = fmt.Sprintf("%#x", uint32(fs.Type))
	}
	if inMemory[p.fileSystem] {
		p.memory = p.fileSystem
		return p
	}
	below := ""
	if p.fileSystem == "overlay" {
		below = mount.upper
	} else {
		p.device = s.deviceOf(path, mount.source)
		p.memory = p.device.inMemory()
		below = p.device.backingFile
	}
	var next unix.Statfs_t
	if below == "" || depth == maxDepth || s.statfs(below, &next) != nil {
		return p
	}
	q := s.place(below, next, depth+1)
	if q.memory != "" {
		p.memory = p.fileSystem + " on " + q.memory
	}
	if p.fileSystem == "overlay" {
		p.device = q.device
	}
	return p
}

// mount is a line of /proc/self/mountinfo.
type mount struct {
	kind, source, upper string
}

// mountOf finds the mount of a path: by its number, or where the kernel does not tell that, the deepest above the path.
func (s System) mountOf(path string) (m mount) {
	text, err := os.ReadFile(s.path("proc/self/mountinfo"))
	if err != nil {
		return m
	}
	var x unix.Statx_t
	number := ""
	if err := s.statx(path, unix.STATX_MNT_ID, &x); err == nil && x.Mask&unix.STATX_MNT_ID != 0 {
		number = fmt.Sprint(x.Mnt_id)
	}
	whole, err := filepath.Abs(path)
	if real, e := filepath.EvalSymlinks(whole); err == nil && e == nil {
		whole = real
	}
	deepest := -1
	for line := range strings.Lines(string(text)) {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 6 || len(right) < 3 {
			continue
		}
		at := unescape(left[4])
		match := left[0] == number
		if number == "" && within(whole, at) && len(at) >= deepest {
			match, deepest = true, len(at)
		}
		if match {
			m = mount{kind: right[0], source: unescape(right[1]), upper: option(right[2], "upperdir=")}
		}
	}
	return m
}

func within(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

func option(options, name string) string {
	for o := range strings.SplitSeq(options, ",") {
		if value, ok := strings.CutPrefix(o, name); ok {
			return unescape(value)
		}
	}
	return ""
}

// unescape undoes what the kernel does to blanks in names.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
