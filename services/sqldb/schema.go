package sqldb

// Schema returns the statements that make the tables; running them again
// changes nothing. They are plain enough for SQLite and MariaDB: keys have a
// length because MariaDB asks for one, times are Unix microseconds, lists are
// JSON text, and truth is 0 or 1.
func Schema() []string {
	return []string{
		`CREATE TABLE IF NOT EXISTS plans (
			id VARCHAR(64) NOT NULL PRIMARY KEY,
			name VARCHAR(255) NOT NULL,
			max_height INTEGER NOT NULL,
			max_streams INTEGER NOT NULL,
			devices TEXT NOT NULL,
			price_cents INTEGER NOT NULL
		)`,
		`CREATE TABLE IF NOT EXISTS members (
			id VARCHAR(64) NOT NULL PRIMARY KEY,
			email VARCHAR(255) NOT NULL UNIQUE,
			name VARCHAR(255) NOT NULL,
			plan VARCHAR(64) NOT NULL,
			country VARCHAR(2) NOT NULL,
			password_hash VARCHAR(255) NOT NULL,
			created_us BIGINT NOT NULL
		)`,
		`CREATE TABLE IF NOT EXISTS titles (
			id VARCHAR(64) NOT NULL PRIMARY KEY,
			name VARCHAR(255) NOT NULL,
			synopsis TEXT NOT NULL,
			genres TEXT NOT NULL,
			poster TEXT NOT NULL,
			duration_us BIGINT NOT NULL,
			rungs TEXT NOT NULL,
			countries TEXT NOT NULL,
			live INTEGER NOT NULL,
			release_year INTEGER NOT NULL,
			available_us BIGINT NOT NULL,
			min_sites INTEGER NOT NULL,
			UNIQUE (name, id)
		)`,
		`CREATE TABLE IF NOT EXISTS ledger (
			entry_key VARCHAR(128) NOT NULL PRIMARY KEY,
			member VARCHAR(64) NOT NULL,
			kind VARCHAR(32) NOT NULL,
			cents BIGINT NOT NULL,
			at_us BIGINT NOT NULL,
			UNIQUE (member, at_us, entry_key)
		)`,
	}
}
