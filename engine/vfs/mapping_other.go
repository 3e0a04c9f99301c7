//go:build !unix

package vfs

// Map implements Mapper.
func (OS) Map(string, int) (Mapping, error) { return nil, errNoMapping }
