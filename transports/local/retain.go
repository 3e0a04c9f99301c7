package local

import (
	"time"

	"github.com/weir-project/weir/engine/segment"
	"github.com/weir-project/weir/transports"
)

var _ transports.Retaining = (*Sink)(nil)

// Retain implements transports.Retaining. It keeps two files' room below the bound at
// which the sink takes nothing more, so that retention comes before back-pressure.
func (k *Sink) Retain(keep time.Duration, max int64) (transports.Dropped, error) {
	if k.place == nil {
		return transports.Dropped{}, k.notOpen()
	}
	return k.place.retain(keep, max)
}

func (p *place) retain(keep time.Duration, most int64) (transports.Dropped, error) {
	p.publishing.Lock()
	defer p.publishing.Unlock()
	segmentBytes := p.segmentBytes
	if segmentBytes == 0 {
		segmentBytes = segment.DefaultSegmentBytes
	}
	if full := p.max.Load() - 2*segmentBytes; most <= 0 || most > full {
		most = max(full, segmentBytes)
	}
	files, first := p.log.Segments(), p.log.First()
	size := p.log.Size()
	var gone transports.Dropped
	before := first
	for i := 0; i+1 < len(files) && files[i+1].First <= p.marked.Entries; i++ {
		if size <= most {
			if keep <= 0 || files[i+1].First == p.marked.Entries {
				break
			}
			at, err := p.publishedAt(files[i+1].First)
			if err != nil {
				return gone, err
			}
			if p.now().Sub(at) < keep {
				break
			}
		}
		size -= files[i].Length
		gone.Bytes += files[i].Length
		before = files[i+1].First
	}
	if before == first {
		return transports.Dropped{}, nil
	}
	gone.Entries, gone.Unread = before-first, before-first
	for _, c := range p.known() {
		// Every consumer of a topic is owed each entry; a queue has one.
		gone.Unread = min(gone.Unread, before-min(max(c.passed.Load(), first), before))
	}
	return gone, p.log.DropBefore(before)
}
