package objects

import "strconv"

// What a container of versitygw, the real S3 store, needs.
const (
	// StorePort is where it listens, inside its container.
	StorePort = 7070
	// StoreDir is its data directory: a volume must be mounted there, since
	// the image has no such folder and versitygw makes none.
	StoreDir = "/data"
)

// Environment returns the variables of a versitygw container (v1.8.0) that
// accepts one pair of credentials. Its posix backend keeps metadata in extended
// attributes: the volume's file system must have them.
func Environment(accessKey, secretKey string) map[string]string {
	return map[string]string{
		"ROOT_ACCESS_KEY_ID":     accessKey,
		"ROOT_SECRET_ACCESS_KEY": secretKey,
		"VGW_PORT":               ":" + strconv.Itoa(StorePort),
		"VGW_REGION":             signRegion,
		// Without it every request costs a connection.
		"VGW_KEEP_ALIVE": "true",
		// No line of output for each request: the door counts them.
		"VGW_QUIET": "true",
	}
}

// Command returns the arguments of a versitygw container.
func Command() []string { return []string{"posix", StoreDir} }
