package scan

import (
	"bytes"
	"fmt"
	"math"
	"regexp"
	"strings"

	"github.com/zricethezav/gitleaks/v8/config"
)

// rule finds secrets in content: a word, then an expression around it.
type rule struct {
	id, description string
	// keywords start the rule, whatever their case. A rule has at least one.
	keywords []string
	re       *regexp.Regexp
	// group of re is the secret; 0 takes the first group that is not empty, or
	// the whole match.
	group int
	// entropy that the secret must exceed, in bits per character; 0 asks none.
	entropy float64
	path    *regexp.Regexp // of files the rule is for; nil for all
	allow   []*config.Allowlist
	// anywhere runs the rule on files of packages, too: its match is a secret
	// whatever stands around it.
	anywhere bool
	// loose needs lines of text around it: it would find itself in programs.
	loose bool
	// short wants a word of some length around its keyword, which has three
	// letters at most.
	short bool
	// after is how many bytes the expression may span behind its keyword.
	after int
	// check has the last word on the secret and the match it is from.
	check   func(secret, match []byte) bool
	literal []byte // exactly these bytes; re is nil
	library bool   // gitleaks' rule: its global lists apply
	rank    int    // of two rules that match the same bytes, the higher one tells
}

// Windows around a keyword. Expressions of the rules look at most this far.
const (
	before    = 512
	spanShort = 1 << 10
	spanLong  = 16 << 10 // whole private keys
	maxToken  = 4 << 10  // how far a window grows to end between words
)

const (
	rankLoose = iota
	rankField // a value in a place that is known to hold secrets
	rankLibrary
	rankOwn
	rankLiteral
)

// ruleSet are all rules with the words that start them.
type ruleSet struct {
	rules  []*rule
	words  *automaton
	starts [][]uint16 // by word: rules
	// certain and its starts are those of the rules that run anywhere.
	certain       *automaton
	certainStarts [][]uint16
	global        []*config.Allowlist
	paths         *pathRules
	declared      map[string]bool
	containers    []container
	builtins      []compiledBuiltin
}

func newRuleSet(opts Options) (*ruleSet, error) {
	library, global, err := libraryRules()
	if err != nil {
		return nil, err
	}
	own := contentRules()
	literals, err := literalRules(opts.Literals)
	if err != nil {
		return nil, err
	}
	s := &ruleSet{global: global, declared: map[string]bool{}, containers: containers(), builtins: compileBuiltins()}
	for _, r := range own {
		library = withoutRule(library, r.id)
	}
	s.rules = append(append(append(s.rules, literals...), own...), library...)
	s.words, s.starts = startWords(s.rules, func(*rule) bool { return true })
	s.certain, s.certainStarts = startWords(s.rules, func(r *rule) bool { return r.anywhere })
	for _, d := range opts.Declared {
		s.declared[strings.TrimSpace(d)] = true
	}
	s.paths, err = newPathRules()
	return s, err
}

// withoutRule drops the library's rule that one of ours replaces.
func withoutRule(rules []*rule, id string) []*rule {
	var kept []*rule
	for _, r := range rules {
		if r.id != id {
			kept = append(kept, r)
		}
	}
	return kept
}

func startWords(rules []*rule, want func(*rule) bool) (*automaton, [][]uint16) {
	ids := map[string]int{}
	var words []string
	var starts [][]uint16
	for i, r := range rules {
		if !want(r) {
			continue
		}
		for _, w := range r.keywords {
			w = strings.ToLower(w)
			id, ok := ids[w]
			if !ok {
				id = len(words)
				ids[w] = id
				words, starts = append(words, w), append(starts, nil)
			}
			starts[id] = append(starts[id], uint16(i))
		}
	}
	return newAutomaton(words), starts
}

// looseMark is how gitleaks' generator writes "a name like this one, then an
// assignment" (cmd/generate/config/utils/generate.go, identifierPrefix): the
// value has no form of its own.
const looseMark = `[\w.-]{0,50}?(?:`

// examples are rules whose matches manuals are full of.
var examples = map[string]bool{"jwt": true, "jwt-base64": true, "curl-auth-user": true, "curl-auth-header": true}

// libraryRules are gitleaks' own, with the lists of what all of them allow.
func libraryRules() ([]*rule, []*config.Allowlist, error) {
	c, err := libraryConfig()
	if err != nil {
		return nil, nil, err
	}
	var rules []*rule
	for _, id := range c.OrderedRules {
		lib := c.Rules[id]
		if lib.SkipReport || lib.Regex == nil {
			continue // pkcs12-file is a path alone: ours asks for the content, too
		}
		if len(lib.Keywords) == 0 {
			return nil, nil, fmt.Errorf("gitleaks' rule %q has no keyword: want one to start it", id)
		}
		loose := strings.Contains(lib.Regex.String(), looseMark) || id == "generic-api-key"
		r := &rule{
			id: id, description: lib.Description, keywords: lib.Keywords, re: lib.Regex, group: lib.SecretGroup,
			entropy: lib.Entropy, path: lib.Path, allow: lib.Allowlists, loose: loose,
			anywhere: !loose && lib.Path == nil && !examples[id], after: spanShort, rank: rankLibrary, library: true,
		}
		if loose {
			r.rank = rankLoose
		}
		if strings.Contains(lib.Regex.String(), `[\s\S`) || strings.Contains(lib.Regex.String(), `(?:.|\s)`) || strings.Contains(id, "kubernetes") {
			r.after = spanLong
		}
		for _, w := range r.keywords {
			r.short = r.short || !loose && len(w) <= 3
		}
		rules = append(rules, r)
	}
	return rules, c.Allowlists, nil
}

// secretOf is what of a match is the secret, as gitleaks' detector takes it.
func (r *rule) secretOf(b []byte, m []int) (lo, hi int) {
	if r.group > 0 && m[2*r.group] >= 0 {
		return m[2*r.group], m[2*r.group+1]
	}
	for g := 2; r.group == 0 && g < len(m); g += 2 {
		if m[g] >= 0 && m[g+1] > m[g] {
			return m[g], m[g+1]
		}
	}
	match := b[m[0]:m[1]]
	trimmed := bytes.TrimLeft(match, "\n")
	return m[0] + len(match) - len(trimmed), m[0] + len(bytes.TrimRight(match, "\n"))
}

// accepts asks entropy, lists and check about a match.
func (s *ruleSet) accepts(r *rule, path, secret, match, line []byte) bool {
	if r.entropy > 0 && entropy(secret) <= r.entropy {
		return false
	}
	if r.check != nil && !r.check(secret, match) {
		return false
	}
	if r.library && allowed(s.global, path, secret, match, line) {
		return false
	}
	return !allowed(r.allow, path, secret, match, line)
}

// allowed follows gitleaks' detect.go, checkFindingAllowed.
func allowed(lists []*config.Allowlist, path, secret, match, line []byte) bool {
	for _, a := range lists {
		target := secret
		switch a.RegexTarget {
		case "match":
			target = match
		case "line":
			target = line
		}
		regexOK := a.RegexAllowed(string(target))
		stop, _ := a.ContainsStopWord(string(secret))
		pathOK := a.PathAllowed(string(path))
		if a.MatchCondition == config.AllowlistMatchAnd {
			if (len(a.Regexes) == 0 || regexOK) && (len(a.StopWords) == 0 || stop) && (len(a.Paths) == 0 || pathOK) && len(a.Commits) == 0 {
				return true
			}
			continue
		}
		if regexOK || stop || pathOK {
			return true
		}
	}
	return false
}

// entropy is Shannon's, in bits per character.
func entropy(b []byte) float64 {
	if len(b) == 0 {
		return 0
	}
	counts := map[rune]int{}
	for _, c := range string(b) {
		counts[c]++
	}
	var sum float64
	inv := 1 / float64(len(b))
	var n [256]int
	for _, c := range counts {
		if c < len(n) {
			n[c]++ // the same order of additions whatever the map's
			continue
		}
		sum -= float64(c) * inv * math.Log2(float64(c)*inv)
	}
	for c, times := range n {
		if times > 0 {
			sum -= float64(times) * float64(c) * inv * math.Log2(float64(c)*inv)
		}
	}
	return sum
}
