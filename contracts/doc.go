// Package contracts is the wire between operator and agent: what the values on
// the bus look like, in which bucket and under which key they lie, and which
// subjects carry them.
//
// Every value is JSON with a field v. Unknown fields are ignored, so that either
// side may be newer; an unknown v is refused with an UnsupportedVersionError.
// Decode is the only way in: it bounds the size, checks every name, and never
// panics.
package contracts
