// Takes the prose out of source files for Vale: prose-text OUT FILE…
//
// OUT/FILE.txt gets the prose of FILE, each line at its line number, so that Vale's line numbers are those of FILE.
// Vale itself reads only comments of Rust, not messages, and only whole YAML files.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

func lines(path string) []string {
	text, err := os.ReadFile(path)
	if err != nil {
		fail("%v", err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "prose-text: "+format+"\n", values...)
	os.Exit(2)
}

// The prose of a file, line by line.
type parts struct{ prose []string }

var (
	codeSpan    = regexp.MustCompile("``[^`]*``|`[^`]*`")
	placeholder = regexp.MustCompile(`\{[^{} ]*\}|\\[nrt]`)
	link        = regexp.MustCompile(`\]\([^)]*\)`)
	address     = regexp.MustCompile(`[a-z]+://\S+`)
	template    = regexp.MustCompile(`\{\{-? */\*|\*/ *-?\}\}|\{\{[^/].*?\}\}`)
	yamlKey     = regexp.MustCompile(`^\s*(- )*['"]?[\w./-]+['"]?:(\s|$)`)
	hashComment = regexp.MustCompile(`(^|\s)#+ .*`)
	longName    = regexp.MustCompile(`\bfn ([a-z0-9]+(?:_[a-z0-9]+){3,})\b`)
)

// Separates what stands side by side on a line, so that no phrase reaches across.
const gap = " ; "

// Prose without code spans.
func (p *parts) add(line int, text string) {
	text = link.ReplaceAllString(codeSpan.ReplaceAllString(text, "it"), "] ")
	text = strings.TrimSpace(address.ReplaceAllString(text, "it"))
	if p.prose[line] != "" && text != "" {
		p.prose[line] += gap
	}
	p.prose[line] += text
}

func read(path string, text []string) parts {
	p := parts{prose: make([]string, len(text))}
	switch extension := filepath.Ext(path); {
	case extension == ".md":
		markdown(&p, text)
	case extension == ".rs" || extension == ".go":
		source(&p, text, extension == ".go")
	case extension == ".json":
		for number, line := range text {
			p.add(number, yamlKey.ReplaceAllString(line, ""))
		}
	case extension == ".yaml" || extension == ".yml" || extension == ".tpl":
		for number, line := range text {
			p.add(number, strings.TrimLeft(yamlKey.ReplaceAllString(template.ReplaceAllString(line, " "), ""), " #"))
		}
	default:
		// Scripts: messages may stand without quotes, so all of it is read.
		for number, line := range text {
			p.add(number, strings.TrimLeft(template.ReplaceAllString(line, " "), " \t#/"))
		}
	}
	return p
}

// Of blocks of code, the comments; of blocks of output and diagrams, everything.
func markdown(p *parts, text []string) {
	fence := ""
	for number, line := range text {
		trimmed := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(trimmed, "```"):
			if fence == "" {
				fence = trimmed
			} else {
				fence = ""
			}
		case fence == "":
			p.add(number, line)
		case strings.HasPrefix(fence, "```text") || strings.HasPrefix(fence, "```mermaid"):
			p.add(number, line)
		default:
			p.add(number, strings.TrimLeft(hashComment.FindString(line), " #"))
		}
	}
}

// Comments, strings with a blank in them, and the names of functions that are sentences: most are tests.
func source(p *parts, text []string, goSource bool) {
	const (
		inCode = iota
		inBlock
		inString
		inRaw
	)
	state, end := inCode, ""
	for number, line := range text {
		var code, word strings.Builder
		flush := func() {
			said := placeholder.ReplaceAllString(word.String(), " ")
			if strings.Contains(strings.TrimSpace(said), " ") {
				p.add(number, said)
			}
			word.Reset()
		}
		for at := 0; at < len(line); {
			rest := line[at:]
			switch state {
			case inBlock:
				if strings.HasPrefix(rest, "*/") {
					p.add(number, word.String())
					word.Reset()
					state, at = inCode, at+2
					continue
				}
				word.WriteByte(line[at])
				at++
			case inString:
				switch {
				case rest[0] == '\\' && len(rest) > 1:
					word.WriteString(rest[:2])
					at += 2
				case rest[0] == '"':
					flush()
					state, at = inCode, at+1
				default:
					word.WriteByte(rest[0])
					at++
				}
			case inRaw:
				if strings.HasPrefix(rest, end) {
					flush()
					state, at = inCode, at+len(end)
					continue
				}
				word.WriteByte(rest[0])
				at++
			default:
				raw := regexp.MustCompile(`^r(#*)"`).FindStringSubmatch(rest)
				free := at == 0 || !regexp.MustCompile(`\w`).MatchString(line[at-1:at])
				char := regexp.MustCompile(`^'(\\.[^']*|[^\\'])'`).FindString(rest)
				switch {
				case strings.HasPrefix(rest, "//"):
					p.add(number, strings.TrimLeft(rest, "/! "))
					at = len(line)
				case strings.HasPrefix(rest, "/*"):
					state, at = inBlock, at+2
				case raw != nil && !goSource && (free || line[at-1] == 'b'):
					state, end, at = inRaw, `"`+raw[1], at+len(raw[0])
				case goSource && rest[0] == '`':
					state, end, at = inRaw, "`", at+1
				case rest[0] == '"':
					state, at = inString, at+1
				case char != "":
					at += len(char)
				default:
					code.WriteByte(rest[0])
					at++
				}
			}
		}
		if state != inCode {
			flush()
		}
		if name := longName.FindStringSubmatch(code.String()); name != nil {
			p.add(number, strings.ReplaceAll(strings.ReplaceAll(name[1], "_s_", "'s "), "_", " "))
		}
	}
}

func main() {
	if len(os.Args) < 3 {
		fail("OUT FILE…")
	}
	for _, path := range os.Args[2:] {
		found := read(path, lines(path))
		target := filepath.Join(os.Args[1], path+".txt")
		err := os.MkdirAll(filepath.Dir(target), 0o755)
		if err == nil {
			err = os.WriteFile(target, []byte(strings.Join(found.prose, "\n")+"\n"), 0o644)
		}
		if err != nil {
			fail("%v", err)
		}
	}
}
