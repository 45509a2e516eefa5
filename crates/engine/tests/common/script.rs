//! Packet scripts in packetdrill's notation against one stack.
