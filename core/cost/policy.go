package cost

import (
	"errors"
	"fmt"
	"strings"
)

// ErrPolicy says that a text names no policy.
var ErrPolicy = errors.New("there is no such policy")

// Policy says what may be done with memory that is not registered.
type Policy uint8

// The policies. Registered memory is used as it is with each of them.
const (
	Auto    Policy = iota // what costs less
	Never                 // it is copied
	Always                // it is registered for the transfer
	Require               // the transfer is refused
)

var policies = [...]string{Auto: "auto", Never: "never", Always: "always", Require: "require"}

func (p Policy) String() string {
	if int(p) >= len(policies) {
		return fmt.Sprintf("policy %d", uint8(p))
	}
	return policies[p]
}

// Valid says whether it is one of the four.
func (p Policy) Valid() bool { return int(p) < len(policies) }

// ParsePolicy reads what String wrote; the empty text is Auto.
func ParsePolicy(text string) (Policy, error) {
	if text == "" {
		return Auto, nil
	}
	for p, name := range policies {
		if text == name {
			return Policy(p), nil
		}
	}
	return Auto, fmt.Errorf("%w: register=%q (it is one of %s)", ErrPolicy, text, strings.Join(policies[:], ", "))
}
