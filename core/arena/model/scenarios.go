package model

// Scenario bounds a run: who may do what how often, with how many cells.
type Scenario struct {
	Name           string
	Menu           [nThread]int   // op… bits of each thread
	Budget         [nThread]uint8 // how many of them
	Cells, Extents int
	Preload        int   // names that exist at the start
	Epoch          uint8 // E at the start: earlier children came and went
	Gate           bool  // calls pass the call gate
	Grandchild     bool  // a child may fork once
	ReplaceOnly    bool  // name 0 is never taken away
	Precise        bool  // no hold without cause; needs one getter, two can race (safe, see Variants)
	Shared         bool  // any thread may release or commit what another one reserved
	Keep           bool  // a commit is refused where the name exists
	Large          bool  // millions of states
}

// Scenarios returns those that must hold.
func Scenarios() []Scenario {
	list := []Scenario{
		{Name: "epoch1", Menu: menu{opGet, opGet | opRemove, opFork}, Budget: calls{1, 2, 1}, Preload: 1, Grandchild: true},
		{Name: "epoch2", Menu: menu{opGet, opRemove, opFork}, Budget: calls{2, 1, 2}, Preload: 1, Precise: true},
		{Name: "epoch3", Menu: menu{opGet, opGet | opRemove, opFork}, Budget: calls{1, 3, 1}, Preload: 1, Epoch: 2},
		{Name: "reuse", Menu: menu{opGet, opPut | opRemove, opFork}, Budget: calls{1, 3, 1}, Preload: 1},
		{Name: "replace", Menu: menu{opGet, opPut, opPut}, Budget: calls{2, 2, 1}, Preload: 1, ReplaceOnly: true},
		{Name: "evict", Menu: menu{opGet, opPut | opRemove, opEvict}, Budget: calls{1, 2, 2}, Preload: 1},
		{Name: "pin", Menu: menu{opPin, opPut | opTake, opEvict}, Budget: calls{3, 2, 2}, Preload: 1},
		{Name: "pin2", Menu: menu{opPin, opReserve | opCommit | opRemove, opEvict}, Budget: calls{2, 2, 1}, Preload: 1},
		{Name: "take", Menu: menu{opGet, opTake | opGet, opFork}, Budget: calls{1, 2, 1}, Preload: 1},
		{Name: "adopt", Menu: menu{opReserve | opCommit, opGet | opRemove, opFork}, Budget: calls{1, 2, 1}},
		{Name: "adopt2", Menu: menu{opReserve | opCommit, opRemove | opPut, 0}, Budget: calls{2, 2, 0}},
		{Name: "commit", Menu: menu{opReserve | opCommit, opCommit, opReserve}, Budget: calls{1, 0, 1}, Shared: true, Cells: 1, Extents: 1},
		{Name: "commit2", Menu: menu{opReserve | opCommit, opCommit | opRemove, opReserve | opGet}, Budget: calls{1, 1, 1}, Shared: true},
		{Name: "refuse", Menu: menu{opReserve | opCommit, opCommit, opRemove}, Budget: calls{2, 0, 1}, Preload: 1, Shared: true, Keep: true},
		{Name: "drains", Menu: menu{opGet, opPut, opFork}, Budget: calls{2, 2, 1}, Preload: 1},
		{Name: "snapshot", Menu: menu{opSnapshot, opMulti, opGet}, Budget: calls{2, 1, 1}, Preload: 2, Cells: 4, Extents: 4},
		{Name: "scan", Menu: menu{opScan, opMulti, opRemove}, Budget: calls{1, 2, 0}, Preload: 2, Cells: 4, Extents: 4},
		{Name: "scanfork", Menu: menu{opScan, opMulti, opFork}, Budget: calls{1, 1, 1}, Preload: 2, Cells: 4, Extents: 4},
		{Name: "clone", Menu: menu{opSnapshot | opClone, opRemove, opFork}, Budget: calls{2, 1, 1}, Preload: 2},
		{Name: "snapfork", Menu: menu{opSnapshot, opRemove | opGet, opFork}, Budget: calls{1, 2, 1}, Preload: 2},
		{Name: "close", Menu: menu{opGet, opPut | opRemove, opClose}, Budget: calls{2, 2, 1}, Preload: 1, Gate: true},
		{Name: "evictclose", Menu: menu{opEvict, opGet | opPut, opClose}, Budget: calls{2, 2, 1}, Preload: 1, Gate: true},
		{Name: "snapclose", Menu: menu{opSnapshot, opRemove, opClose}, Budget: calls{1, 1, 1}, Preload: 2, Gate: true},
		{Name: "commitclose", Menu: menu{opGet, opReserve | opCommit, opClose}, Budget: calls{1, 1, 1}, Preload: 1, Gate: true, Shared: true},
		{Name: "epoch4", Menu: menu{opGet, opRemove, opFork}, Budget: calls{2, 1, 2}, Preload: 1, Precise: true, Grandchild: true, Large: true},
		{Name: "commitfork", Menu: menu{opReserve | opCommit, opCommit | opGet | opRemove, opFork}, Budget: calls{1, 2, 1}, Shared: true},
		{Name: "closeadopt", Menu: menu{opReserve | opCommit, opGet, opClose | opFork}, Budget: calls{1, 1, 2}, Gate: true, Shared: true, Large: true},
		{Name: "closefork", Menu: menu{opGet, opRemove | opGet, opClose | opFork}, Budget: calls{1, 1, 2}, Preload: 1, Gate: true, Large: true},
	}
	for i := range list {
		if list[i].Cells == 0 {
			list[i].Cells, list[i].Extents = 2, 2
		}
	}
	return list
}

type (
	menu  = [nThread]int
	calls = [nThread]uint8
)
