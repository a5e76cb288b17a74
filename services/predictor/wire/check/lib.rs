//! The files of the wire that read what callers send, and nothing that stands on Python or a socket.

#[path = "../src/grpc.rs"]
pub mod grpc;
#[path = "../src/message.rs"]
pub mod message;
