package tier

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const victimEnv = "MOORAGE_TEST_VICTIM"

func victimOptions(dir string, mode Durability) Options {
	return Options{Dir: dir, Capacity: 24 << 20, SegmentBytes: 4 << 20, SnapshotBytes: 16 << 10, Durability: mode, BatchEvery: time.Millisecond}
}

// victim puts and removes until it is killed, and says on its output what it begins (lower case) and what it was told to be done.
func victim(env string) {
	mode, dir, _ := strings.Cut(env, ":")
	n, _ := strconv.Atoi(mode)
	d, err := Open(victimOptions(dir, Durability(n)))
	if err != nil {
		fmt.Println("!", err)
		return
	}
	m, err := mapMemory(4 << 20)
	if err != nil {
		fmt.Println("!", err)
		return
	}
	s := &scratch{in: m[:2<<20], out: m[2<<20:]}
	r := rand.New(rand.NewPCG(rand.Uint64(), 5))
	for seq := d.MaxSeq() + 1; ; seq++ {
		key := fmt.Sprint("k", r.IntN(40))
		switch r.IntN(10) {
		case 0, 1, 2, 3, 4, 5:
			fmt.Println("p", key, seq)
			_, err := s.put(d, key, seq, []int{r.IntN(9000), r.IntN(200_000), r.IntN(2 << 20)}[r.IntN(3)])
			switch {
			case errors.Is(err, ErrFull):
				fmt.Println("f", key, seq)
			case err != nil:
				fmt.Println("!", err)
				return
			default:
				fmt.Println("P", key, seq)
			}
		case 6, 7:
			fmt.Println("r", key)
			d.Remove([]byte(key), seq)
			if err := d.Settle(); err != nil {
				fmt.Println("!", err)
				return
			}
			fmt.Println("R", key)
		case 8:
			if err := d.Sync(); err != nil {
				fmt.Println("!", err)
				return
			}
			fmt.Println("S")
		case 9:
			if _, _, err := s.get(d, key); err != nil {
				fmt.Println("!", err)
				return
			}
		}
	}
}

// follow takes in what a victim said.
func (h history) follow(t testing.TB, out io.Reader, mode Durability) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch words[0] {
		case "p":
			seq, err := strconv.ParseUint(words[2], 10, 64)
			require.NoError(t, err)
			h.add(words[1], seq)
		case "r":
			h.add(words[1], 0)
		case "f":
			h[words[1]] = h[words[1]][:len(h[words[1]])-1]
		case "P", "R":
			if mode != Batch {
				h.promised(words[1])
			}
		case "S":
			h.allPromised()
		default:
			t.Fatal(lines.Text())
		}
	}
}

// kills kills processes in the middle of their work, and looks what they leave.
func kills(t *testing.T, more func(round int) bool) {
	for _, mode := range []Durability{None, Batch, Each} {
		t.Run(mode.String(), func(t *testing.T) {
			dir, h, s := filepath.Join(t.TempDir(), "kv"), history{}, newScratch(t, 2<<20)
			for round := 0; more(round); round++ {
				child := exec.Command(os.Args[0])
				child.Env = append(os.Environ(), fmt.Sprintf("%s=%d:%s", victimEnv, mode, dir))
				out, err := child.StdoutPipe()
				require.NoError(t, err)
				require.NoError(t, child.Start())
				timer := time.AfterFunc(time.Duration(5+rand.IntN(150))*time.Millisecond, func() { _ = child.Process.Kill() })
				h.follow(t, out, mode)
				timer.Stop()
				_ = child.Wait()
				h.found(t, s, dir, mode)
			}
		})
	}
}

// found opens the directory and compares it with what may be there.
func (h history) found(t *testing.T, s *scratch, dir string, mode Durability) {
	d, err := Open(victimOptions(dir, mode))
	require.NoError(t, err)
	require.Empty(t, d.Recovered().Lost)
	objects := 0
	for key, may := range h {
		seq, found, err := s.get(d, key)
		require.NoError(t, err, key)
		require.True(t, slices.Contains(may, seq), "%q is %d, and may be %v", key, seq, may)
		if found {
			objects++
		}
		h[key] = []uint64{seq}
	}
	require.Equal(t, objects, d.Len())
	addsUp(t, d)
	require.NoError(t, d.Close())
}

func TestKill(t *testing.T) { kills(t, func(round int) bool { return round < 5 }) }

// TestSoakKill is TestKill for MOORAGE_HAMMER_SECONDS, and for a hundred rounds at least.
func TestSoakKill(t *testing.T) {
	seconds, err := strconv.Atoi(os.Getenv("MOORAGE_HAMMER_SECONDS"))
	if err != nil {
		t.Skip("probed MOORAGE_HAMMER_SECONDS: not set")
	}
	var end time.Time
	kills(t, func(round int) bool {
		if round == 0 {
			end = time.Now().Add(time.Duration(seconds) * time.Second / 3)
		}
		return round < 100 || time.Now().Before(end)
	})
}
