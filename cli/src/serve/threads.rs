//! The number of candle's compute threads. It reads it from the environment once, so a process that was started without it
//! becomes itself anew with it.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread::available_parallelism;

use crate::failure::OrFail;

/// The pools of inference and of loading.
const VARIABLES: [&str; 2] = ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"];
/// Compute threads wait for each other by spinning. On a machine of so few cores they also share them with the chain,
/// Redis and the gateway, and then one thread is several times faster than two.
const FEW_CORES: usize = 2;

/// Sees to it that inference uses `threads` threads; 0 leaves it to the machine.
pub(super) fn provide(threads: u32) -> anyhow::Result<()> {
    let cores = available_parallelism().map_or(1, usize::from);
    let Some(wanted) = wanted(threads, cores).map(|threads| threads.to_string()) else { return Ok(()) };
    // What the operator has set in the environment goes before a guess, not before the settings.
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|given| threads == 0 || *given == *wanted);
    let missing: Vec<_> =
        VARIABLES.into_iter().filter(|name| !is_set(name)).map(|name| (name, &wanted)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let program = std::env::current_exe()?;
    let error = Command::new(&program).args(std::env::args_os().skip(1)).envs(missing).exec();
    Err(error).or_fail(program.display(), "set engine.threads to 0")
}

fn wanted(threads: u32, cores: usize) -> Option<u32> {
    match threads {
        0 if cores <= FEW_CORES => Some(1),
        0 => None,
        threads => Some(threads),
    }
}

#[cfg(test)]
mod tests {
    use super::wanted;

    #[test]
    fn few_cores_get_one_thread_unless_told_otherwise() {
        assert_eq!(
            [wanted(0, 2), wanted(0, 8), wanted(3, 2), wanted(3, 8)],
            [Some(1), None, Some(3), Some(3)]
        );
    }
}
