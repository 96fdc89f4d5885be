package probe

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The directory of the tests, wherever they run.
func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	r, err := Directory(dir)
	require.NoError(t, err)
	t.Logf("%+v", r)
	require.Equal(t, dir, r.Dir)
	require.NotEmpty(t, r.FileSystem)
	require.NotContains(t, r.FileSystem, "0x")
	require.Greater(t, r.Size, r.Free)
	require.Equal(t, r.Direct, r.NotDirect == nil)
	require.GreaterOrEqual(t, r.Align(), 4096)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left, "the probe's file")
	if r.Device.Name == "" {
		t.Skip("probed the device of the temporary directory: it has none")
	}
	require.NotEmpty(t, r.Device.Disks)
	before, err := r.Device.Counters()
	require.NoError(t, err)
	f, err := os.Create(filepath.Join(dir, "file"))
	require.NoError(t, err)
	_, err = f.Write(make([]byte, 1<<20))
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
	after, err := r.Device.Counters()
	require.NoError(t, err)
	require.GreaterOrEqual(t, after.WriteSectors-before.WriteSectors, uint64(1<<20/512))
}

func TestMemoryIsToldApart(t *testing.T) {
	const dir = "/dev/shm"
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) != nil || names[int64(fs.Type)] != "tmpfs" {
		t.Skip("probed /dev/shm: it is no tmpfs")
	}
	r, err := Directory(dir)
	require.NoError(t, err)
	require.Equal(t, "tmpfs", r.FileSystem)
	require.Equal(t, "tmpfs", r.Memory)
	require.Empty(t, r.Device.Name)
	_, err = r.Device.Counters()
	require.ErrorIs(t, err, ErrNoDevice)
}

func TestBadDirectories(t *testing.T) {
	_, err := Directory(filepath.Join(t.TempDir(), "absent"))
	require.ErrorIs(t, err, os.ErrNotExist)
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = Directory(file)
	require.ErrorIs(t, err, unix.ENOTDIR)
	r, err := Directory("/proc/self")
	require.Error(t, err, "no file can be made there")
	require.Equal(t, "proc", r.FileSystem)
}

func TestNotDirect(t *testing.T) {
	s := linux
	s.open = func(path string, flags int) (int, error) {
		if flags&unix.O_DIRECT != 0 {
			return -1, unix.EINVAL
		}
		return unix.Open(path, flags, 0o600)
	}
	r, err := s.Directory(t.TempDir())
	require.NoError(t, err)
	require.False(t, r.Direct)
	require.ErrorIs(t, r.NotDirect, unix.EINVAL)

	// It opens, but does not write: a file that is open for reading alone.
	s.open = func(path string, flags int) (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) }
	r, err = s.Directory(t.TempDir())
	require.NoError(t, err)
	require.ErrorIs(t, r.NotDirect, unix.EBADF)

	// It writes, and forgets.
	s.open = func(string, int) (int, error) { return unix.Open("/dev/zero", unix.O_RDWR|unix.O_CLOEXEC, 0) }
	r, err = s.Directory(t.TempDir())
	require.NoError(t, err)
	require.ErrorIs(t, r.NotDirect, errOtherBytes)

	s = linux
	s.statx = func(path string, mask int, x *unix.Statx_t) error {
		err := unix.Statx(unix.AT_FDCWD, path, 0, mask, x)
		x.Mask |= unix.STATX_DIOALIGN
		x.Dio_mem_align, x.Dio_offset_align = 512, 16384
		return err
	}
	r, err = s.Directory(t.TempDir())
	require.NoError(t, err)
	require.Equal(t, 16384, r.Align())
	require.Equal(t, 512, r.MemoryAlign)
}

// world is a System made of files.
type world struct {
	System
	t       *testing.T
	types   map[string]int64     // of paths, for statfs
	devices map[string][2]uint32 // of paths
	special map[string][2]uint32 // what paths under /dev stand for
	mounts  map[string]uint64    // numbers of mounts
}

func newWorld(t *testing.T, mountinfo string) *world {
	w := &world{t: t, types: map[string]int64{}, devices: map[string][2]uint32{}, special: map[string][2]uint32{}, mounts: map[string]uint64{}}
	w.Root = t.TempDir()
	w.open = linux.open
	w.statfs = func(path string, buf *unix.Statfs_t) error {
		kind, ok := w.types[path]
		if !ok {
			return unix.ENOENT
		}
		*buf = unix.Statfs_t{Type: kind}
		return nil
	}
	w.statx = func(path string, mask int, x *unix.Statx_t) error {
		*x = unix.Statx_t{}
		if number, ok := w.mounts[path]; ok && mask&unix.STATX_MNT_ID != 0 {
			x.Mask, x.Mnt_id = unix.STATX_MNT_ID, number
		}
		if d, ok := w.special[path]; ok {
			x.Rdev_major, x.Rdev_minor = d[0], d[1]
			return nil
		}
		x.Dev_major, x.Dev_minor = w.devices[path][0], w.devices[path][1]
		return nil
	}
	w.file("proc/self/mountinfo", mountinfo)
	return w
}

func (w *world) file(name, text string) {
	name = filepath.Join(w.Root, name)
	require.NoError(w.t, os.MkdirAll(filepath.Dir(name), 0o755))
	require.NoError(w.t, os.WriteFile(name, []byte(text), 0o600))
}

// disk makes /sys/devices/NAME, where parts lie below, and the links to it.
func (w *world) disk(name string, minor int, parts ...string) {
	w.file("sys/devices/"+name+"/queue/rotational", "0\n")
	w.link("sys/block/"+name, "../devices/"+name)
	w.link(fmt.Sprintf("sys/dev/block/259:%d", minor), "../../devices/"+name)
	for i, p := range parts {
		w.file("sys/devices/"+name+"/"+p+"/partition", fmt.Sprint(i+1))
		w.link(fmt.Sprintf("sys/dev/block/259:%d", minor+1+i), "../../devices/"+name+"/"+p)
	}
}

func (w *world) link(name, to string) {
	name = filepath.Join(w.Root, name)
	require.NoError(w.t, os.MkdirAll(filepath.Dir(name), 0o755))
	require.NoError(w.t, os.Symlink(to, name))
}

func (w *world) look(path string) place { return w.place(path, unix.Statfs_t{Type: w.types[path]}, 0) }

const mountinfo = `21 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p1 rw
22 21 0:20 / /mnt/fast rw - xfs /dev/md0 rw,inode64
23 21 0:21 / /mnt/fast/deep rw - btrfs /dev/mapper/vg-lv rw,subvol=/
24 21 0:22 / /run rw - tmpfs tmpfs rw
25 21 0:23 / /box rw - overlay overlay rw,lowerdir=/l,upperdir=/run/with\040blank/upper,workdir=/run/w
26 21 0:24 / /crate rw - overlay overlay rw,lowerdir=/l,upperdir=/mnt/fast/upper,workdir=/w
27 21 0:25 / /hidden rw - overlay overlay rw,lowerdir=/l,upperdir=/not/seen/from/here
28 21 0:26 / /loop rw - ext4 /dev/loop0 rw
29 21 0:27 / /z rw - ext2 /dev/zram0 rw
this line is broken
`

func TestPlaces(t *testing.T) {
	w := newWorld(t, mountinfo)
	w.disk("nvme0n1", 1, "nvme0n1p1", "nvme0n1p2")
	w.disk("nvme1n1", 10, "nvme1n1p1")
	w.disk("md0", 20)
	w.link("sys/devices/md0/slaves/nvme0n1p2", "../../nvme0n1/nvme0n1p2")
	w.link("sys/devices/md0/slaves/nvme1n1p1", "../../nvme1n1/nvme1n1p1")
	w.disk("dm-0", 30)
	w.file("sys/devices/dm-0/dm/name", "vg-lv\n")
	w.link("sys/devices/dm-0/slaves/md0", "../../md0")
	w.disk("loop0", 40)
	w.file("sys/devices/loop0/loop/backing_file", "/run/image\n")
	w.disk("zram0", 50)
	w.file("sys/devices/nvme0n1/device/model", "A Fast One  \n")
	w.types = map[string]int64{
		"/here": 0xef53, "/mnt/fast/a": 0x58465342, "/mnt/fast/deep/a": 0x9123683e, "/run/a": 0x01021994,
		"/box": 0x794c7630, "/crate": 0x794c7630, "/hidden": 0x794c7630, "/loop": 0xef53, "/z": 0xef53,
		"/run/with blank/upper": 0x01021994, "/mnt/fast/upper": 0x58465342, "/run/image": 0x01021994,
	}
	w.devices = map[string][2]uint32{
		"/here": {259, 2}, "/mnt/fast/a": {259, 20}, "/mnt/fast/upper": {259, 20}, "/loop": {259, 40}, "/z": {259, 50},
	}
	w.special["/dev/mapper/vg-lv"] = [2]uint32{259, 30}

	p := w.look("/here")
	require.Equal(t, "ext4", p.fileSystem)
	require.Empty(t, p.memory)
	require.Equal(t, "nvme0n1", p.device.Name)
	require.Equal(t, "nvme0n1p1", p.device.Partition)
	require.Equal(t, []string{"nvme0n1"}, p.device.Disks)
	require.Equal(t, "A Fast One", p.device.Model)
	require.False(t, p.device.Rotational)
	require.True(t, p.device.NVMe())

	p = w.look("/mnt/fast/a")
	require.Equal(t, "xfs", p.fileSystem)
	require.Equal(t, "md0", p.device.Name)
	require.Empty(t, p.device.Partition)
	require.ElementsMatch(t, []string{"nvme0n1", "nvme1n1"}, p.device.Disks)

	p = w.look("/mnt/fast/deep/a")
	require.Equal(t, "btrfs", p.fileSystem, "the deepest mount, whose files have numbers of their own")
	require.Equal(t, "dm-0", p.device.Name)
	require.Equal(t, "vg-lv", p.device.Label)
	require.ElementsMatch(t, []string{"nvme0n1", "nvme1n1"}, p.device.Disks)

	require.Equal(t, "tmpfs", w.look("/run/a").memory)
	p = w.look("/box")
	require.Equal(t, "overlay", p.fileSystem)
	require.Equal(t, "overlay on tmpfs", p.memory)
	p = w.look("/crate")
	require.Empty(t, p.memory)
	require.Equal(t, "md0", p.device.Name)
	p = w.look("/hidden")
	require.Empty(t, p.memory)
	require.Empty(t, p.device.Name)
	p = w.look("/loop")
	require.Equal(t, "ext4 on tmpfs", p.memory)
	require.Equal(t, "loop0", p.device.Name)
	require.False(t, p.device.NVMe())
	require.Equal(t, "zram0", w.look("/z").memory)

	w.mounts["/here"] = 24
	require.Equal(t, "tmpfs", w.look("/here").fileSystem, "the kernel's number of the mount counts more than the path")
	require.NoError(t, os.Remove(filepath.Join(w.Root, "proc/self/mountinfo")))
	require.Equal(t, "xfs", w.look("/mnt/fast/a").fileSystem, "without /proc, by the number of the type")
	require.Equal(t, "0x12345", w.place("/strange", unix.Statfs_t{Type: 0x12345}, 0).fileSystem)
}

// Overlays that lie on themselves end nevertheless.
func TestEndlessPlaces(t *testing.T) {
	w := newWorld(t, "1 0 0:1 / / rw - overlay overlay rw,upperdir=/\n")
	w.types["/"] = 0x794c7630
	require.Empty(t, w.look("/").memory)
}

func TestCounters(t *testing.T) {
	w := newWorld(t, "")
	w.disk("vda", 1)
	d := Device{Name: "vda", system: w.System}
	_, err := d.Counters()
	require.ErrorIs(t, err, os.ErrNotExist)
	w.file("sys/devices/vda/stat", "  100 2 3000 40 5 6 7000 80 9 10 110 12 13 14 15 16 17\n")
	c, err := d.Counters()
	require.NoError(t, err)
	require.Equal(t, Counters{100, 2, 3000, 40, 5, 6, 7000, 80, 9, 10, 110}, c)
	for _, text := range []string{"", "1 2 3", strings.Repeat("x ", 11)} {
		w.file("sys/devices/vda/stat", text)
		_, err = d.Counters()
		require.Error(t, err)
		require.False(t, errors.Is(err, os.ErrNotExist))
	}
}
