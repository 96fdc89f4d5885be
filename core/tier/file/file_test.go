package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const ownerEnv = "MOORAGE_TEST_OWNER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(ownerEnv); dir != "" { // a process that owns a directory until it is killed
		d, err := Open(dir)
		if err == nil {
			err = d.Lock()
		}
		fmt.Println("locked", err)
		time.Sleep(time.Minute)
		return
	}
	os.Exit(m.Run())
}

func open(t *testing.T) (Dir, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kv")
	d, err := Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d, path
}

func TestFiles(t *testing.T) {
	d, path := open(t)
	_, err := d.Open("a", 0)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, path)
	f, err := d.Open("a", Create)
	require.NoError(t, err)
	defer f.Close()
	n, err := f.WriteAt([]byte("hello"), 3)
	require.NoError(t, err)
	require.Equal(t, 5, n)
	b := make([]byte, 10)
	n, err = f.ReadAt(b, 0)
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, "\x00\x00\x00hello", string(b[:n]))
	require.NoError(t, f.Sync())
	require.NoError(t, f.Truncate(4))
	size, err := f.Size()
	require.NoError(t, err)
	require.EqualValues(t, 4, size)
	if err := f.Allocate(0, 8192); !errors.Is(err, ErrUnsupported) {
		require.NoError(t, err)
		size, _ = f.Size()
		require.EqualValues(t, 8192, size)
	}
	require.NoError(t, d.Rename("a", "b"))
	require.NoError(t, d.Lock())
	require.NoError(t, os.Mkdir(filepath.Join(path, "folder"), 0o700))
	names, err := d.Names()
	require.NoError(t, err)
	require.Equal(t, []string{"b"}, names)
	require.NoError(t, d.Sync())
	require.NoError(t, d.Remove("b"))
	require.ErrorIs(t, d.Remove("b"), fs.ErrNotExist)
	require.GreaterOrEqual(t, f.FD(), 0)
	_, err = f.ReadAt(b, -1)
	require.ErrorIs(t, err, ErrSystem)
	_, err = f.WriteAt(b, -1)
	require.ErrorIs(t, err, ErrSystem)
}

func TestNamesStayInTheDirectory(t *testing.T) {
	d, _ := open(t)
	for _, name := range []string{"", ".", "..", "a/b", "../a", "a\x00"} {
		_, err := d.Open(name, Create)
		require.ErrorIs(t, err, ErrName, "%q", name)
		require.ErrorIs(t, d.Rename(name, "a"), ErrName, "%q", name)
		require.ErrorIs(t, d.Rename("a", name), ErrName, "%q", name)
		require.ErrorIs(t, d.Remove(name), ErrName, "%q", name)
	}
}

func TestBadDirectories(t *testing.T) {
	parent := t.TempDir()
	_, err := Open(filepath.Join(parent, "a", "b"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	plain := filepath.Join(parent, "plain")
	require.NoError(t, os.WriteFile(plain, nil, 0o600))
	_, err = Open(plain)
	require.ErrorIs(t, err, unix.ENOTDIR)
	require.ErrorContains(t, err, plain)

	d, path := open(t)
	require.NoError(t, os.Remove(path))
	_, err = d.Open("a", Create)
	require.ErrorIs(t, err, fs.ErrNotExist, "a directory that was removed")
}

func TestSymbolicLinksAreNotFollowed(t *testing.T) {
	d, path := open(t)
	target := filepath.Join(t.TempDir(), "precious")
	require.NoError(t, os.WriteFile(target, []byte("precious"), 0o600))
	require.NoError(t, os.Symlink(target, filepath.Join(path, "a")))
	_, err := d.Open("a", Create)
	require.ErrorIs(t, err, unix.ELOOP)
}

// In one process and between two: there is one owner, the error says who, and the owner's end is enough.
func TestOneOwner(t *testing.T) {
	d, path := open(t)
	require.NoError(t, d.Lock())
	require.NoError(t, d.Lock(), "it is ours")
	other, err := Open(path)
	require.NoError(t, err)
	defer other.Close()
	err = other.Lock()
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, fmt.Sprint(os.Getpid()))
	require.NoError(t, d.Close())

	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), ownerEnv+"="+path)
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	said := make([]byte, 64)
	n, _ := out.Read(said)
	require.Equal(t, "locked <nil>", strings.TrimSpace(string(said[:n])))
	var locked *LockedError
	require.ErrorAs(t, other.Lock(), &locked)
	require.Equal(t, child.Process.Pid, locked.PID)
	require.NoError(t, child.Process.Kill())
	_ = child.Wait()
	require.NoError(t, other.Lock())
}

func TestClassify(t *testing.T) {
	for errno, kind := range map[unix.Errno]error{
		unix.ENOSPC: ErrNoSpace, unix.EDQUOT: ErrNoSpace, unix.EROFS: ErrReadOnly, unix.EOPNOTSUPP: ErrUnsupported, unix.EIO: ErrSystem,
	} {
		err := Classify(errno)
		require.ErrorIs(t, err, kind)
		require.ErrorIs(t, err, errno)
		require.Equal(t, err, Classify(err), "once is enough")
	}
	require.NoError(t, Classify(nil))
}
