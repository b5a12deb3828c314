package limit

import (
	"cmp"

	"github.com/flix-lab/flix/services"
)

// Names of the algorithms.
const (
	Vegas     = "vegas"
	Gradient2 = "gradient2"
	AIMD      = "aimd"
)

// inOrder is what to do about numbers that do not go together.
const inOrder = "set limit.min, limit.initial and limit.max so that none is below the one before; one that is not set takes its default"

// Algorithms lists their names.
func Algorithms() []string { return []string{Vegas, Gradient2, AIMD} }

// Config of a limiter. Zero numbers take the algorithm's defaults: Vegas 20, 1
// and 1000, Gradient2 and AIMD 20, 20 and 200.
type Config struct {
	// Algorithm is Vegas, Gradient2 or AIMD.
	Algorithm string
	// Initial, Min and Max bound the limit, in calls at once.
	Initial, Min, Max int
}

// complete fills in defaults and checks the numbers against one another.
func (c Config) complete() (Config, error) {
	d := Config{Initial: 20, Min: 20, Max: 200}
	switch c.Algorithm {
	case Vegas:
		d.Min, d.Max = 1, 1000
	case Gradient2, AIMD:
	default:
		return c, services.Errorf(services.Invalid, "limit: there is no algorithm %q", c.Algorithm).WithRemedy("use one of %s", services.List(Algorithms()))
	}
	if c.Initial < 0 || c.Min < 0 || c.Max < 0 {
		return c, services.Errorf(services.Invalid, "limit: initial %d, min %d, max %d: none may be negative", c.Initial, c.Min, c.Max)
	}
	c.Max = cmp.Or(c.Max, max(d.Max, c.Min, c.Initial))
	c.Min = cmp.Or(c.Min, min(d.Min, c.Max))
	c.Initial = cmp.Or(c.Initial, min(max(d.Initial, c.Min), c.Max))
	if c.Min > c.Max {
		return c, services.Errorf(services.Invalid, "limit: min %d is above max %d", c.Min, c.Max).WithRemedy(inOrder)
	}
	if c.Initial < c.Min || c.Initial > c.Max {
		return c, services.Errorf(services.Invalid, "limit: initial %d is not between min %d and max %d", c.Initial, c.Min, c.Max).WithRemedy(inOrder)
	}
	return c, nil
}

func (c Config) algorithm() algorithm {
	switch c.Algorithm {
	case Vegas:
		return newVegas(c)
	case Gradient2:
		return newGradient2(c)
	}
	return newAIMD(c)
}
