// Package rules holds tests of what must be true of the module as a whole: what
// packages may stand on, what they export, and that its documents say what is so.
package rules
