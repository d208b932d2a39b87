//! Which manifest a command means: by its tag or the highest release, for a target, a platform or this machine.
