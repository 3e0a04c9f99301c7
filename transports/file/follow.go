package file

import "github.com/weir-project/weir/transports"

type (
	tailState struct{}
	follower  struct{}
)

func (s *source) openFollowed() error { return s.errorf("open: follow is not there yet") }

func (s *source) stepFollowed(*transports.Chunk) (bool, error) { return false, nil }
