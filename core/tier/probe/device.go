package probe

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Device is a whole disk, or what is made of some.
type Device struct {
	Name       string   // as under /sys/block: nvme0n1, vda, md0, dm-0
	Label      string   // of a mapped device: the name that people gave it
	Partition  string   // that the file system is on; empty when it is the whole disk
	Disks      []string // what it is made of in the end: itself, or the disks under md0 or dm-0
	Rotational bool     // as the driver says; virtual disks often say so without being it
	Model      string

	backingFile string // of a loop device
	system      System
}

// NVMe says whether all disks are.
func (d *Device) NVMe() bool {
	return len(d.Disks) > 0 && !slices.ContainsFunc(d.Disks, func(n string) bool { return !strings.HasPrefix(n, "nvme") })
}

func (d *Device) inMemory() string {
	for _, n := range d.Disks {
		if strings.HasPrefix(n, "zram") || strings.HasPrefix(n, "ram") {
			return n
		}
	}
	return ""
}

// deviceOf finds the disk of a path by its device number, or by what was mounted where file systems number for themselves
// (btrfs, zfs).
func (s System) deviceOf(path, source string) Device {
	var x unix.Statx_t
	if s.statx(path, unix.STATX_BASIC_STATS, &x) != nil {
		return Device{}
	}
	major, minor := x.Dev_major, x.Dev_minor
	if major == 0 {
		if !strings.HasPrefix(source, "/dev/") || s.statx(source, unix.STATX_BASIC_STATS, &x) != nil {
			return Device{}
		}
		major, minor = x.Rdev_major, x.Rdev_minor
	}
	folder, err := filepath.EvalSymlinks(s.path("sys/dev/block", fmt.Sprintf("%d:%d", major, minor)))
	if err != nil {
		return Device{}
	}
	d := Device{Name: filepath.Base(folder), system: s}
	if disk := wholeDisk(folder); disk != folder {
		d.Name, d.Partition, folder = filepath.Base(disk), d.Name, disk
	}
	d.Label = word(folder, "dm/name")
	d.Rotational = word(folder, "queue/rotational") == "1"
	d.Model = word(folder, "device/model")
	d.backingFile = word(folder, "loop/backing_file")
	d.Disks = s.disksUnder(folder, nil, 0)
	return d
}

// wholeDisk is the folder of the disk that a partition's folder lies in.
func wholeDisk(folder string) string {
	if _, err := os.Stat(filepath.Join(folder, "partition")); err == nil {
		return filepath.Dir(folder)
	}
	return folder
}

// disksUnder follows md and dm to what they are made of.
func (s System) disksUnder(folder string, disks []string, depth int) []string {
	made, _ := os.ReadDir(filepath.Join(folder, "slaves"))
	if len(made) == 0 || depth == maxDepth {
		if name := filepath.Base(folder); !slices.Contains(disks, name) {
			disks = append(disks, name)
		}
		return disks
	}
	for _, m := range made {
		below, err := filepath.EvalSymlinks(filepath.Join(folder, "slaves", m.Name()))
		if err != nil {
			continue
		}
		disks = s.disksUnder(wholeDisk(below), disks, depth+1)
	}
	return disks
}

func word(folder, file string) string {
	text, err := os.ReadFile(filepath.Join(folder, file))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// ErrNoDevice says that there is no disk whose counters could be read.
var ErrNoDevice = errors.New("no disk is known")

// Counters are what the kernel has counted of a disk since it appeared: /sys/block/NAME/stat. Times are milliseconds; a sector is
// 512 bytes, whatever the disk's are.
type Counters struct {
	Reads, ReadsMerged, ReadSectors, ReadTime     uint64
	Writes, WritesMerged, WriteSectors, WriteTime uint64
	InFlight                                      uint64 // now
	BusyTime                                      uint64 // with at least one in flight
	QueueTime                                     uint64 // summed over all in flight: its rise over that of the clock is the mean depth
}

// Counters reads them.
func (d *Device) Counters() (c Counters, err error) {
	if d.Name == "" {
		return c, ErrNoDevice
	}
	text, err := os.ReadFile(d.system.path("sys/block", d.Name, "stat"))
	if err != nil {
		return c, fmt.Errorf("probe: %w", err)
	}
	fields := strings.Fields(string(text))
	all := [...]*uint64{
		&c.Reads, &c.ReadsMerged, &c.ReadSectors, &c.ReadTime, &c.Writes, &c.WritesMerged, &c.WriteSectors, &c.WriteTime,
		&c.InFlight, &c.BusyTime, &c.QueueTime,
	}
	if len(fields) < len(all) {
		return c, fmt.Errorf("probe: %s has %d fields in its stat, not %d", d.Name, len(fields), len(all))
	}
	for i, p := range all {
		if *p, err = strconv.ParseUint(fields[i], 10, 64); err != nil {
			return Counters{}, fmt.Errorf("probe: stat of %s: %w", d.Name, err)
		}
	}
	return c, nil
}
