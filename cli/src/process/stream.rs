//! The output of a process, on the matching streams of this one.

use std::io::{self, Write};

use pmq_broker::Process;

use crate::output::Output;

/// Shows what a process prints, until it has ended.
pub(crate) async fn stream(process: &Process, output: Output) -> anyhow::Result<()> {
    process.join().await?;
    if let Some(completion) = process.completion().await? {
        let (stdout, stderr) = completion.output();
        output.raw(stdout)?;
        io::stderr().write_all(stderr)?;
    }
    Ok(())
}
