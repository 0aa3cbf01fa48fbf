//! What people read, one file for each command or group of commands.

pub(crate) mod administration;
pub(crate) mod can;
pub(crate) mod doctor;
