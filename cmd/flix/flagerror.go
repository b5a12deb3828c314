package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagError says of a flag's value what it may be, where the flags' library only
// has the words of the function that could not read it.
func flagError(c *cobra.Command, err error) error {
	if unknown := (*pflag.NotExistError)(nil); errors.As(err, &unknown) {
		return noSuchFlag(c, unknown)
	}
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) {
		return err
	}
	f := bad.GetFlag()
	want, ok := wants[strings.TrimSuffix(f.Value.Type(), "Slice")]
	if !ok {
		return err
	}
	name := "--" + f.Name
	if f.Shorthand != "" {
		name = "-" + f.Shorthand + ", " + name
	}
	return fmt.Errorf("invalid argument %q for %q: want %s (%s)", bad.GetValue(), name, want, f.Usage)
}

// wants says what flags of a type take.
var wants = map[string]string{
	"int": wholeNumber, "int32": wholeNumber, "int64": wholeNumber, "uint": natural, "uint32": natural, "uint64": natural,
	"float64": "a number like 0.5", "duration": "a duration like 30s, 5m or 1h30m", "bool": "true or false",
}

const (
	wholeNumber = "a whole number"
	natural     = "a whole number, 0 or more"
)
