package arena

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func openTest(t *testing.T, o Options) *Region {
	t.Helper()
	r, err := OpenRegion(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

func TestRegionTwoMappingsOneMemory(t *testing.T) {
	r := openTest(t, Options{Size: 1<<20 + 1})
	require.Equal(t, up(1<<20+1, r.PageSize()), r.Size())
	w, v := r.WriterBytes(4000, 1000), r.ReaderBytes(4000, 1000)
	copy(w, bytes.Repeat([]byte("moorage"), 100))
	require.Equal(t, w, v)
	require.NotEqual(t, r.WriterAddr(0), r.ReaderAddr(0))
	resident, err := r.Resident()
	require.NoError(t, err)
	require.Equal(t, 2*r.PageSize(), resident)
}

func TestRegionContains(t *testing.T) {
	r := openTest(t, Options{Size: 1 << 20})
	for _, base := range []func(uint64) uintptr{r.WriterAddr, r.ReaderAddr} {
		for _, off := range []uint64{0, 77, r.Size() - 1} {
			got, ok := r.Contains(base(off))
			require.True(t, ok)
			require.Equal(t, off, got)
		}
	}
	low := min(r.WriterAddr(0), r.ReaderAddr(0))
	_, ok := r.Contains(low - 1)
	require.False(t, ok)
	_, ok = r.Contains(max(r.WriterAddr(0), r.ReaderAddr(0)) + uintptr(r.Size()))
	require.False(t, ok)
	_, ok = r.Contains(0)
	require.False(t, ok)
}

func TestRegionSealsHold(t *testing.T) {
	r := openTest(t, Options{Size: 1 << 20})
	require.ErrorIs(t, unix.Ftruncate(r.FD(), 1<<19), unix.EPERM)
	require.ErrorIs(t, unix.Ftruncate(r.FD(), 1<<21), unix.EPERM)
	seals, err := unix.FcntlInt(uintptr(r.FD()), unix.F_GET_SEALS, 0)
	require.NoError(t, err)
	require.Equal(t, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW, seals)
	// Further seals are still possible: readers elsewhere get the memfd
	// without the right to map it writable.
	_, err = unix.FcntlInt(uintptr(r.FD()), unix.F_ADD_SEALS, unix.F_SEAL_FUTURE_WRITE)
	require.NoError(t, err)
	copy(r.WriterBytes(0, 3), "abc")
	flags, err := unix.FcntlInt(uintptr(r.FD()), unix.F_GETFD, 0)
	require.NoError(t, err)
	require.NotZero(t, flags&unix.FD_CLOEXEC)
}

func TestRegionIsNotDumped(t *testing.T) {
	r := openTest(t, Options{Size: 1 << 20})
	smaps, err := os.ReadFile("/proc/self/smaps")
	require.NoError(t, err)
	checked, ours := 0, false
	for line := range strings.Lines(string(smaps)) {
		if strings.Contains(line, "/memfd:"+regionName) {
			ours = true
		} else if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && ours {
			require.Contains(t, strings.Fields(flags), "dd")
			checked, ours = checked+1, false
		}
	}
	require.Equal(t, regionMaps(), checked)
	require.GreaterOrEqual(t, checked, 2)
	require.NotZero(t, r.FD())
}

func TestRegionPunch(t *testing.T) {
	r := openTest(t, Options{Size: 1 << 20})
	w := r.WriterBytes(0, r.Size())
	for i := range w {
		w[i] = 1
	}
	page := r.PageSize()
	require.NoError(t, r.Punch(page, 3*page))
	resident, err := r.Resident()
	require.NoError(t, err)
	require.Equal(t, r.Size()-3*page, resident)
	require.Equal(t, byte(1), r.ReaderBytes(page-1, 1)[0])
	require.Equal(t, byte(0), r.ReaderBytes(page, 1)[0])
	require.Equal(t, byte(1), r.ReaderBytes(4*page, 1)[0])
	require.ErrorIs(t, r.Punch(1, page), ErrRange)
	require.ErrorIs(t, r.Punch(r.Size(), page), ErrRange)
	require.NoError(t, r.Punch(r.Size(), 0))
}

func TestRegionRanges(t *testing.T) {
	r, err := OpenRegion(Options{Size: 1 << 20})
	require.NoError(t, err)
	for _, c := range []func(off, n uint64) error{r.Protect, r.Unprotect, r.Populate} {
		require.ErrorIs(t, c(0, r.Size()+1), ErrRange)
		require.ErrorIs(t, c(r.Size()+1, 0), ErrRange)
		require.ErrorIs(t, c(1, ^uint64(0)), ErrRange)
		require.NoError(t, c(r.Size(), 0))
	}
	require.NoError(t, r.Close())
	require.NoError(t, r.Close())
	for _, c := range []func(off, n uint64) error{r.Protect, r.Unprotect, r.Populate, r.Punch} {
		require.ErrorIs(t, c(0, r.PageSize()), ErrClosed)
	}
}

func TestRegionPopulateFillsBothMappings(t *testing.T) {
	r := openTest(t, Options{Size: 8 << 20})
	if err := r.Populate(0, r.Size()); errors.Is(err, ErrNoPopulate) {
		t.Skip("probed for MADV_POPULATE_WRITE:", err)
	} else {
		require.NoError(t, err)
	}
	before := minorFaults(t)
	sum := byte(0)
	for off := uint64(0); off < r.Size(); off += r.PageSize() {
		r.WriterBytes(off, 1)[0] = 1
		sum += r.ReaderBytes(off, 1)[0]
	}
	require.Less(t, minorFaults(t)-before, int64(r.Size()/r.PageSize()/10), "2 × %d pages were touched", r.Size()/r.PageSize())
	require.Equal(t, byte(r.Size()/r.PageSize()), sum)
}

func minorFaults(t *testing.T) int64 {
	t.Helper()
	var u unix.Rusage
	require.NoError(t, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return u.Minflt
}

// victimEnv names what a child process started by a test is to die of.
const victimEnv = "ARENA_TEST_VICTIM"

func victim() {
	r, err := OpenRegion(Options{Size: 1 << 20})
	if err != nil {
		os.Exit(3)
	}
	page := r.PageSize()
	w := r.WriterBytes(0, r.Size())
	w[0], w[page] = 1, 1
	switch os.Getenv(victimEnv) {
	case "protected":
		if r.Protect(page+100, 10) != nil {
			os.Exit(3)
		}
		w[page-1] = 2 // the page before is not concerned
		os.Stdout.WriteString("protected\n")
		w[page] = 2
	case "unprotected":
		if r.Protect(page, page) != nil || r.Unprotect(page, page) != nil {
			os.Exit(3)
		}
		w[page] = 2
	case "reader":
		os.Stdout.WriteString("protected\n")
		r.ReaderBytes(0, 1)[0] = 2
	}
}

func TestRegionProtectedWritesFault(t *testing.T) {
	for mode, dies := range map[string]bool{"protected": true, "reader": true, "unprotected": false} {
		t.Run(mode, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), victimEnv+"="+mode)
			out, err := cmd.CombinedOutput()
			if !dies {
				require.NoError(t, err, string(out))
				return
			}
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit)
			require.Contains(t, string(out), "protected\n")
			// The Go runtime turns the signal into a fatal error of its own.
			status := exit.Sys().(syscall.WaitStatus)
			require.True(t, status.Signaled() || exit.ExitCode() == 2, "%v: %s", err, out)
			require.Contains(t, string(out), "SIGSEGV")
		})
	}
}

func TestRegionOptions(t *testing.T) {
	for _, o := range []Options{
		{Size: ^uint64(0)},
		{Size: 1 << 20, HugePages: 9},
		{Size: 1 << 20, Prefault: 9},
	} {
		_, err := OpenRegion(o)
		require.ErrorIs(t, err, ErrOption)
	}
}

// Somebody closed the descriptor, and its number is another file's by now: that file stays open, and is not asked how large
// it is.
func TestCloseLeavesTheFileOfSomebodyElse(t *testing.T) {
	r, err := OpenRegion(Options{Size: 1 << 20})
	require.NoError(t, err)
	require.NoError(t, unix.Close(r.fd))
	_, err = r.Resident()
	require.ErrorIs(t, err, unix.EBADF)
	other, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	if other != r.fd { // another goroutine was quicker
		require.NoError(t, unix.Dup3(other, r.fd, unix.O_CLOEXEC))
		defer unix.Close(r.fd)
	}
	fd := r.fd
	_, err = r.Resident()
	require.ErrorIs(t, err, unix.EBADF)
	require.ErrorIs(t, r.Close(), unix.EBADF)
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(fd, &st))
	require.NoError(t, unix.Close(other))
}
