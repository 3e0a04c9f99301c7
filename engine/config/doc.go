// Package config turns a file, the environment and flags into a checked Plan.
//
// Promise: a Plan that Load returns can be put to work without another check
// of names, types or ranges; where something is wrong, Load returns every
// mistake at once, each with file, line, column, the path of the setting and,
// where it can tell, what was meant. The value of a secret never stands in an
// error.
//
// The steps are: parse (goccy/go-yaml's syntax tree, so that each value knows
// its place; JSON is read as YAML, of which it is a part), join included files,
// replace references, decode by walking the tree, check what refers to what.
// Configurations of many thousand routes are better written as JSON: it is read
// in linear time, which the YAML parser does not promise.
//
// Only the section "node" is layered with environment and flags: names in the
// other sections are the user's own, and may hold dots and capitals.
//
// References stand in values, never in keys:
//
//	${VAR}            the variable, which must be set
//	${VAR:-default}   the variable, or the text where it is unset or empty
//	${file:path}      the file's text without its last line break
//	$$                a dollar
//
// An unquoted scalar that holds a reference is typed again after the
// replacement (lanes: ${LANES} is a number); a quoted one stays a string.
// Replaced text is never parsed as YAML structure and never searched for
// references again.
package config
