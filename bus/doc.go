// Package bus is how operator and device speak over NATS: the streams behind the
// buckets, who may do what on them, and the ways of writing and reading that lose
// nothing.
//
// The operator writes desired state with a Writer and reads every bucket with
// Watch. A device owns no consumer: its Mirror subscribes to what the stream of
// desired state republishes, and asks an operator for a snapshot whenever it may
// have missed something.
package bus
