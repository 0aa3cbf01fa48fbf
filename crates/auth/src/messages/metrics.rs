//! What is said about `metrics_file`.

use std::{fmt, path::Path};

use crate::metrics::file::MetricsFileReport;
use input::text::Quoted;

impl fmt::Display for MetricsFileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |path: &Path| Quoted(&path.display().to_string()).to_string();
        match self {
            Self::NotWritten { path, why } => {
                let folder = path.parent().unwrap_or(path);
                write!(
                    f,
                    "metrics_file {} cannot be written: {why}; fix: let the broker's user write in {}",
                    quoted(path),
                    quoted(folder)
                )
            }
            Self::WrittenAgain { path } => {
                write!(f, "metrics_file {} is written again", quoted(path))
            }
            Self::NoThread(why) => write!(
                f,
                "metrics_file is not written, because the system starts no thread: {why}; fix: raise the limit of \
                 threads of the broker's user"
            ),
        }
    }
}
