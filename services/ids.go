package services

// TitleID identifies a title of the catalogue, e.g. "tt-harbor-lights".
type TitleID string

// MemberID identifies a member (a paying household).
type MemberID string

// SessionID identifies one playback session.
type SessionID string

// ApplianceID is the instance id of an appliance, e.g. "us-east/us-east-isp-1/oca/1".
type ApplianceID string
