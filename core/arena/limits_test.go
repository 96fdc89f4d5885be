package arena

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// tree writes files below a new root, so that a test can say what /proc and
// /sys look like.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	write(t, root, files)
	return root
}

func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	}
}

const (
	meminfo64G = "MemTotal:       67108864 kB\nMemFree: 1000 kB\nMemAvailable:   33554432 kB\nSwapFree:       1048576 kB\n"
	mount2     = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	mount1     = "25 23 0:20 / /proc rw - proc proc rw\n" +
		"31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n" +
		"32 30 0:28 / /sys/fs/cgroup/memory rw shared:10 - cgroup cgroup rw,memory\n"
	gib = uint64(1) << 30
)

func TestMemoryLimits(t *testing.T) {
	for name, c := range map[string]struct {
		files           map[string]string
		limit, headroom uint64
	}{
		"no groups": {
			map[string]string{},
			64 * gib, 33 * gib,
		},
		"version 2, own limit": {
			map[string]string{
				"proc/self/mountinfo":          mount2,
				"proc/self/cgroup":             "0::/job\n",
				"sys/fs/cgroup/job/memory.max": "8589934592\n", "sys/fs/cgroup/job/memory.high": "max\n",
				"sys/fs/cgroup/job/memory.current": "3221225472\n",
				"sys/fs/cgroup/job/memory.stat":    "anon 5\ninactive_file 1073741824\nactive_file 1073741824\nfile_dirty 536870912\nfile_writeback 536870912\n",
			},
			8 * gib, 6 * gib,
		},
		"version 2, nested: the least of all levels": {
			map[string]string{
				"proc/self/mountinfo":                    mount2,
				"proc/self/cgroup":                       "0::/a/b/c\n",
				"sys/fs/cgroup/a/memory.max":             "4294967296\n",
				"sys/fs/cgroup/a/memory.current":         "4294967296\n",
				"sys/fs/cgroup/a/b/memory.max":           "max\n",
				"sys/fs/cgroup/a/b/c/memory.max":         "17179869184\n",
				"sys/fs/cgroup/a/b/c/memory.current":     "1073741824\n",
				"sys/fs/cgroup/a/b/c/memory.stat":        "inactive_file 9999999999\n",
				"sys/fs/cgroup/a/b/c/x/memory.max":       "1\n",
				"sys/fs/cgroup/unrelated/job/memory.max": "1\n",
			},
			4 * gib, 0,
		},
		"version 2, high is a limit of capacity, not of headroom": {
			map[string]string{
				"proc/self/mountinfo":           mount2,
				"proc/self/cgroup":              "0::/job\n",
				"sys/fs/cgroup/job/memory.max":  "max\n",
				"sys/fs/cgroup/job/memory.high": "2147483648\n",
			},
			2 * gib, 33 * gib,
		},
		"version 2, container that sees its group as the top": {
			map[string]string{
				"proc/self/mountinfo":          "30 23 0:26 /docker/1f /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
				"proc/self/cgroup":             "0::/docker/1f\n",
				"sys/fs/cgroup/memory.max":     "1073741824\n",
				"sys/fs/cgroup/memory.current": "1\n",
			},
			gib, gib - 1,
		},
		"version 2, group outside of what is mounted": {
			map[string]string{
				"proc/self/mountinfo":      "30 23 0:26 /docker/1f /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
				"proc/self/cgroup":         "0::/docker/1f2/x\n",
				"sys/fs/cgroup/memory.max": "1073741824\n",
			},
			gib, 33 * gib,
		},
		"version 2, name space above": {
			map[string]string{
				"proc/self/mountinfo":      mount2,
				"proc/self/cgroup":         "0::/../../other\n",
				"sys/fs/cgroup/memory.max": "1073741824\n",
			},
			gib, 33 * gib,
		},
		"version 1, nested, and a mount point with a space": {
			map[string]string{
				"proc/self/mountinfo":                            mount1 + `33 30 0:29 / /sys/my\040groups rw - cgroup2 cgroup2 rw` + "\n",
				"proc/self/cgroup":                               "5:cpu,cpuacct:/deep\n4:memory:/a/b\n0::/z\n",
				"sys/fs/cgroup/memory/memory.limit_in_bytes":     "9223372036854771712\n",
				"sys/fs/cgroup/memory/a/memory.limit_in_bytes":   "6442450944\n",
				"sys/fs/cgroup/memory/a/memory.usage_in_bytes":   "2147483648\n",
				"sys/fs/cgroup/memory/a/memory.stat":             "inactive_file 7\ntotal_inactive_file 1073741824\ntotal_dirty 0\n",
				"sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "9223372036854771712\n",
				"sys/my groups/z/memory.max":                     "12884901888\n",
				"sys/my groups/z/memory.current":                 "0\n",
			},
			6 * gib, 5 * gib,
		},
		"usage above the limit, damaged files": {
			map[string]string{
				"proc/self/mountinfo":              mount2 + "what is this\n - \n",
				"proc/self/cgroup":                 "0::/job\nnonsense\n9:memory\n",
				"sys/fs/cgroup/job/memory.max":     "1073741824\n",
				"sys/fs/cgroup/job/memory.current": "2147483648\n",
				"sys/fs/cgroup/memory.max":         "many\n",
			},
			gib, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := tree(t, c.files)
			write(t, root, map[string]string{"proc/meminfo": meminfo64G})
			m := &memory{root: root}
			require.Equal(t, c.limit, m.limit())
			require.Equal(t, c.headroom, m.headroom())
			require.Equal(t, max(down(c.limit/4, 2<<20), 2<<20), m.capacity())
		})
	}
}

func TestNothingKnown(t *testing.T) {
	m := &memory{root: t.TempDir()}
	require.Equal(t, noLimit, m.limit())
	require.Equal(t, noLimit, m.headroom())
	require.Equal(t, gib, m.capacity())
}

func TestThisProcess(t *testing.T) {
	require.Less(t, MemoryLimit(), uint64(1)<<50)
	require.NotZero(t, Headroom())
	require.LessOrEqual(t, Headroom(), uint64(1)<<50)
	require.Zero(t, DefaultCapacity()%(2<<20))
	require.InDelta(t, float64(MemoryLimit())/4, float64(DefaultCapacity()), 2<<20)
}

// TestHeadroomIsRemembered: within 10 ms the files are not read again.
func TestHeadroomIsRemembered(t *testing.T) {
	root := tree(t, map[string]string{"proc/meminfo": "MemAvailable: 1024 kB\n"})
	synctest.Test(t, func(t *testing.T) {
		m := &memory{root: root}
		require.EqualValues(t, 1<<20, m.recentHeadroom())
		write(t, root, map[string]string{"proc/meminfo": "MemAvailable: 2048 kB\n"})
		time.Sleep(9 * time.Millisecond)
		require.EqualValues(t, 1<<20, m.recentHeadroom())
		time.Sleep(2 * time.Millisecond)
		require.EqualValues(t, 2<<20, m.recentHeadroom())
	})
}

// limitedTo is a system whose control group has so much room.
func limitedTo(t *testing.T, room uint64) *memory {
	return &memory{root: tree(t, map[string]string{
		"proc/meminfo":                 meminfo64G,
		"proc/self/mountinfo":          mount2,
		"proc/self/cgroup":             "0::/\n",
		"sys/fs/cgroup/memory.max":     strconv.FormatUint(room, 10),
		"sys/fs/cgroup/memory.current": "0",
	})}
}

// TestFreshMemoryIsAskedFor: an allocation that would need more fresh pages
// than there is room fails and changes nothing; warm pages need no room; what
// was promised and is not yet touched counts.
func TestFreshMemoryIsAskedFor(t *testing.T) {
	limits := limitedTo(t, 40<<20)
	a, err := open(linux, newBacking(), limits, Options{Size: 256 << 20})
	require.NoError(t, err)
	defer a.Close()
	before := a.Stats()
	_, err = a.Alloc(64<<20, false)
	require.ErrorIs(t, err, ErrMemoryLimit)
	require.ErrorContains(t, err, "memory.max")
	require.Equal(t, before, a.Stats())

	e, err := a.Alloc(30<<20, false)
	require.NoError(t, err)
	_, err = a.Alloc(10<<20, false)
	require.ErrorIs(t, err, ErrMemoryLimit, "30 MiB are promised already")
	require.NoError(t, a.Free(e.Block))
	e, err = a.Alloc(30<<20, false)
	require.NoError(t, err, "warm")

	// Once touched they are in the usage of the group and promised no more.
	clear(a.WriterBytes(e.Off, e.Len))
	time.Sleep(2 * limitAge)
	_, err = a.Alloc(10<<20, false)
	require.NoError(t, err)
	_, err = a.Trim()
	require.NoError(t, err)
}
