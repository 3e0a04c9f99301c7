package vfs

import (
	"math/rand/v2"
	"slices"
)

// sector is the unit in which a torn write reaches a disk, in bytes.
const sector = 512

// Crash returns what a power cut at this moment might leave: all that was
// synced, and of the rest what chance decides: of unsynced writes none, a
// prefix with a torn end, or scattered sectors; of unsynced names none, a
// prefix, or any of them. The same seed after the same calls gives the same
// clone. Nobody holds a lock in the clone, and all in it is durable.
func (m *Mem) Crash(seed uint64) *Mem {
	m.mu.RLock()
	defer m.mu.RUnlock()
	rng := rand.New(rand.NewPCG(seed, 0x5eed))
	out := NewMem()
	out.now = m.now
	out.nextID = m.nextID
	out.dirs = m.crashDirs(rng)

	names := make(map[string]*memNode, len(m.kept))
	for name, node := range m.kept {
		names[name] = node
	}
	m.crashNames(rng, names)

	order := make([]string, 0, len(names))
	for name := range names {
		order = append(order, name)
	}
	slices.Sort(order)
	clones := map[*memNode]*memNode{}
	for _, name := range order {
		if out.dirs[parent(name)] == nil {
			continue
		}
		node := names[name]
		if clones[node] == nil {
			data := node.crash(rng)
			clones[node] = &memNode{id: node.id, mod: node.mod, data: data, durable: slices.Clone(data)}
		}
		out.names[name] = clones[node]
		out.kept[name] = clones[node]
	}
	return out
}

// crashDirs keeps durable folders and some of the others, but none whose
// parent is lost.
func (m *Mem) crashDirs(rng *rand.Rand) map[string]*memDir {
	order := make([]string, 0, len(m.dirs))
	for name := range m.dirs {
		order = append(order, name)
	}
	slices.Sort(order) // parents come before their children
	dirs := map[string]*memDir{}
	for _, name := range order {
		root := parent(name) == name
		if !m.dirs[name].durable && rng.IntN(2) == 0 {
			continue
		}
		if root || dirs[parent(name)] != nil {
			dirs[name] = &memDir{durable: true}
		}
	}
	return dirs
}

// crashNames applies what survives of the pending changes of names.
func (m *Mem) crashNames(rng *rand.Rand, names map[string]*memNode) {
	mode := rng.IntN(3)
	prefix := rng.IntN(len(m.ops) + 1)
	for i, op := range m.ops {
		if mode == 1 && i < prefix || mode == 2 && rng.IntN(2) == 0 {
			apply(names, op.effects)
		}
	}
}

// crash returns the contents that survive.
func (n *memNode) crash(rng *rand.Rand) []byte {
	data := slices.Clone(n.durable)
	if len(n.pending) == 0 {
		return data
	}
	switch rng.IntN(4) {
	case 0: // nothing
	case 1: // everything
		for _, w := range n.pending {
			data = w.apply(data)
		}
	case 2: // a prefix, the last write torn at any byte
		whole := rng.IntN(len(n.pending))
		for _, w := range n.pending[:whole] {
			data = w.apply(data)
		}
		if w := n.pending[whole]; len(w.bytes) > 0 {
			w.bytes = w.bytes[:rng.IntN(len(w.bytes)+1)]
			if len(w.bytes) > 0 {
				data = w.apply(data)
			}
		}
	case 3: // scattered sectors: a disk writes in any order
		for _, w := range n.pending {
			data = w.scatter(rng, data)
		}
	}
	return data
}

func (w memWrite) scatter(rng *rand.Rand, data []byte) []byte {
	if w.bytes == nil {
		if rng.IntN(2) == 0 {
			return data
		}
		return w.apply(data)
	}
	for from := int64(0); from < int64(len(w.bytes)); {
		// Sectors lie at multiples of their size in the file, not in the write.
		to := min((w.at+from)/sector*sector+sector-w.at, int64(len(w.bytes)))
		if rng.IntN(2) == 0 {
			data = memWrite{at: w.at + from, bytes: w.bytes[from:to]}.apply(data)
		}
		from = to
	}
	return data
}
