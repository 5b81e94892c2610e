-- The one table of the sample application, in the database that createPool names.
CREATE TABLE IF NOT EXISTS users (
	name VARCHAR(64) NOT NULL PRIMARY KEY,
	salt CHAR(32) NOT NULL,
	hash CHAR(64) NOT NULL
);
