package verbs

import (
	"os"
	"sync"

	"moorage/rdma"
)

// Info describes a card.
type Info struct {
	Name     string
	Firmware string
	NUMANode int    // -1: unknown
	Port     int    // the one that would be used, or the first; 0: it has none, or could not be opened
	Link     string // "Ethernet" or "InfiniBand"; empty without a port
	Active   bool   // the port has a link: the card can be used
	Err      error  // why the card could not be opened
}

var (
	librariesMu sync.Mutex
	libraries   = map[string]*rdma.Library{} // by path; a library is never unloaded
)

func load() (*rdma.Library, error) {
	path := os.Getenv("MOORAGE_LIBIBVERBS")
	librariesMu.Lock()
	defer librariesMu.Unlock()
	if lib := libraries[path]; lib != nil {
		return lib, nil
	}
	lib, err := rdma.Load(path)
	if err == nil {
		libraries[path] = lib
	}
	return lib, err
}

// List describes all cards. When none of them can be used, or there is none, the error is an rdma.UnavailableError that says why,
// beside what was found.
func List() ([]Info, error) {
	lib, err := load()
	if err != nil {
		return nil, err
	}
	devices, err := lib.Devices()
	all := make([]Info, 0, len(devices))
	for _, d := range devices {
		all = append(all, describe(d))
	}
	return all, err
}

func describe(d rdma.Device) Info {
	i := Info{Name: d.Name, Firmware: d.Firmware, NUMANode: d.NUMANode, Err: d.Err}
	for _, p := range d.Ports {
		if i.Port != 0 && !p.Active {
			continue
		}
		i.Port, i.Active, i.Link = p.Number, p.Active, "Ethernet"
		if p.InfiniBand {
			i.Link = "InfiniBand"
		}
		if p.Active {
			break
		}
	}
	return i
}
