package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path"

	"github.com/weir-project/weir/engine/vfs"
)

const (
	noteHeader  = 16
	noteFileMax = 256 << 10 // bytes; then the other file of the pair begins
	noteBodyMax = 4 << 20   // a longer body is damage: a full window of runs takes less
	// noteLeap is how far the sequence leaps when a pair is opened: past whatever an
	// earlier run wrote behind the last record that counted. A file holds fewer records.
	noteLeap = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// notes is a pair of files that take turns. Each is written over from its beginning
// when its turn comes: what it held before has lower sequences. The caller serialises
// all calls.
type notes struct {
	fs       vfs.FS
	name     string
	files    [2]vfs.File
	current  int
	size     int64
	limit    int64 // size past which the other file begins
	sequence uint64
	whole    func(dst []byte) []byte // a body that holds the state as a whole
	scratch  []byte
	failed   error // after a failed write nothing may be promised any more
}

func noteNames(name string) [2]string { return [2]string{name + ".a", name + ".b"} }

// openNotes hands the bodies of the records found to apply, then begins the other
// file with what whole gives, so that a torn end is never written after. The files
// get room bytes on the disk: syncs of notes that stay within need not make room
// durable.
func openNotes(fsys vfs.FS, name string, room int64, apply func(body []byte) error, whole func(dst []byte) []byte) (*notes, error) {
	last, err := readNotes(fsys, name, apply)
	if err != nil {
		return nil, err
	}
	n := &notes{fs: fsys, name: name, whole: whole, limit: noteFileMax, sequence: last.sequence + noteLeap, current: last.file}
	for i := range n.files {
		if err = n.open(i, room); err != nil {
			n.close()
			return nil, fmt.Errorf("open note file: %w", err)
		}
	}
	if err = fsys.SyncDir(path.Dir(name)); err == nil {
		err = n.turn()
	}
	if err != nil {
		n.close()
		return nil, fmt.Errorf("open note file %s: %w", name, err)
	}
	return n, nil
}

// open opens a file of the pair, to be read only until its turn comes.
func (n *notes) open(i int, room int64) (err error) {
	if n.files[i], err = n.fs.Append(noteNames(n.name)[i]); err != nil {
		return err
	}
	size, err := n.files[i].Size()
	if err != nil || size >= room {
		return err
	}
	_, err = n.files[i].Write(make([]byte, room-size))
	return err
}

// lastNote is where reading ended: the file that counted and its last record.
type lastNote struct {
	file     int
	sequence uint64
	found    bool
}

// readNotes hands the records that count to apply, in order. It changes nothing.
func readNotes(fsys vfs.FS, name string, apply func(body []byte) error) (lastNote, error) {
	var last lastNote
	var raw [2][]byte
	var first [2]uint64
	for i, file := range noteNames(name) {
		b, err := readFile(fsys, file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return last, err
		}
		if _, sequence, _, ok := cutNote(b); ok {
			raw[i], first[i] = b, sequence
		}
	}
	if first[1] > first[0] {
		last.file = 1
	}
	for rest := raw[last.file]; ; {
		body, sequence, after, ok := cutNote(rest)
		if !ok || last.found && sequence != last.sequence+1 {
			return last, nil
		}
		if err := apply(body); err != nil {
			return last, fmt.Errorf("note file %s, record %d: %w", noteNames(name)[last.file], sequence, err)
		}
		last.sequence, last.found, rest = sequence, true, after
	}
}

func readFile(fsys vfs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	got, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b[:got], nil
}

// cutNote takes one whole record off the front of b.
func cutNote(b []byte) (body []byte, sequence uint64, rest []byte, ok bool) {
	if len(b) < noteHeader {
		return nil, 0, nil, false
	}
	length := binary.LittleEndian.Uint32(b[4:])
	if length > noteBodyMax || int(length) > len(b)-noteHeader {
		return nil, 0, nil, false
	}
	end := noteHeader + int(length)
	if crc32.Checksum(b[4:end], castagnoli) != binary.LittleEndian.Uint32(b) {
		return nil, 0, nil, false
	}
	return b[noteHeader:end], binary.LittleEndian.Uint64(b[8:]), b[end:], true
}

func appendNote(dst []byte, sequence uint64, body []byte) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(body)))
	dst = binary.LittleEndian.AppendUint64(dst, sequence)
	dst = append(dst, body...)
	binary.LittleEndian.PutUint32(dst[start:], crc32.Checksum(dst[start+4:], castagnoli))
	return dst
}

// add writes a record. Its state must be in what whole gives already.
func (n *notes) add(body []byte) error {
	if n.failed != nil {
		return n.failed
	}
	if n.size > n.limit {
		return n.turn()
	}
	return n.write(body)
}

func (n *notes) write(body []byte) error {
	n.sequence++
	n.scratch = appendNote(n.scratch[:0], n.sequence, body)
	if _, err := n.files[n.current].Write(n.scratch); err != nil {
		return n.fail("write", err)
	}
	n.size += int64(len(n.scratch))
	return nil
}

// turn begins the other file with the whole state. The file that counted until
// now is synced before and kept, so that one of the two is always whole.
func (n *notes) turn() error {
	if err := n.sync(); err != nil {
		return err
	}
	n.current = 1 - n.current
	if err := n.rewind(); err != nil {
		return n.fail("begin", err)
	}
	if err := n.write(n.whole(nil)); err != nil {
		return err
	}
	return n.sync()
}

// rewind goes to the beginning of the file whose turn it is.
func (n *notes) rewind() error {
	err := n.files[n.current].Close()
	n.files[n.current] = nil
	if err != nil {
		return err
	}
	n.size = 0
	n.files[n.current], err = n.fs.Overwrite(noteNames(n.name)[n.current], 0)
	return err
}

func (n *notes) sync() error {
	if n.failed != nil {
		return n.failed
	}
	if err := n.files[n.current].Sync(); err != nil {
		return n.fail("sync", err)
	}
	return nil
}

func (n *notes) fail(what string, err error) error {
	n.failed = fmt.Errorf("%s note file: %w", what, err)
	return n.failed
}

func (n *notes) close() error {
	var errs []error
	for _, f := range n.files {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
