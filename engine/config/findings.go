package config

import (
	"errors"
	"fmt"
	"io/fs"
)

// maxMistakes bounds how many mistakes one Load reports.
const maxMistakes = 1000

// findings collects mistakes and warnings while a configuration is read.
type findings struct {
	mistakes []Mistake
	warnings []Mistake
	places   map[string]place
	literal  bool     // of a Tree: text is what it says, and holds secrets if it likes
	secrets  []string // values of secrets, to be struck out of what is shown
	referred []string // texts that hold what came by reference, which must not be shown
}

// add records a mistake; beyond the limit only one that says so.
func (f *findings) add(at place, path, problem, hint string) {
	if len(f.mistakes) > maxMistakes {
		return
	}
	if len(f.mistakes) == maxMistakes {
		problem, hint = fmt.Sprintf("more than %d mistakes", maxMistakes), ""
	}
	f.mistakes = append(f.mistakes, mistakeAt(at, path, problem, hint))
}

func (f *findings) warn(at place, path, problem, hint string) {
	f.warnings = append(f.warnings, mistakeAt(at, path, problem, hint))
}

func mistakeAt(at place, path, problem, hint string) Mistake {
	return Mistake{File: at.file, Line: at.line, Column: at.column, Path: path, Error: problem, Hint: hint}
}

// err is all mistakes as one error, nil where there are none.
func (f *findings) err() error {
	if len(f.mistakes) == 0 {
		return nil
	}
	return &Errors{Mistakes: sortMistakes(f.mistakes)}
}

// cause is an error of the file system without the path, which the caller says.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
