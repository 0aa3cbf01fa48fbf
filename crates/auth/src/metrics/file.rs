//! The thread that writes `metrics_file`. A slow disk holds up nobody else: what it could not write in time is replaced
//! by what is current then.
//!
//! A file is replaced whole, so nobody reads half of it. It is not flushed to the disk, because after a power cut it is
//! of no use. When the broker stops the file is deleted: an old file would look like a broker that runs and does
//! nothing.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use super::{
    table::Snapshot,
    text::{self, TextFormat},
};
use crate::{
    log::{Level, Log},
    threads::{self, Spawn},
};

/// Everybody may read the file: the node exporter runs as another user.
const MODE: u32 = 0o644;

/// What the operator is told about `metrics_file`.
#[derive(Debug)]
pub(crate) enum MetricsFileReport {
    /// It cannot be written.
    NotWritten { path: PathBuf, why: io::Error },
    /// It can be written again.
    WrittenAgain { path: PathBuf },
    /// No thread can be started to write it.
    NoThread(io::Error),
}

impl MetricsFileReport {
    /// Writes it to the log.
    pub(crate) fn tell(&self, log: &Log) {
        let level = match self {
            Self::WrittenAgain { .. } => Level::Info,
            Self::NotWritten { .. } | Self::NoThread(_) => Level::Warning,
        };
        log.line(level, self.to_string());
    }
}

/// What the thread is to write, and where.
struct Order {
    paths: Vec<PathBuf>,
    snapshot: Arc<Snapshot>,
}

/// The thread.
pub(crate) struct MetricsFiles {
    orders: SyncSender<Order>,
    thread: JoinHandle<()>,
    finished: Receiver<()>,
}

impl MetricsFiles {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// Returns an error if the thread cannot be started.
    pub(crate) fn start(spawn: Spawn, log: Log) -> io::Result<Self> {
        let (orders, to_write) = sync_channel(1);
        let (sender, finished) = sync_channel(1);
        let body = move || {
            Writer::new(log).run(&to_write);
            let _ = sender.send(());
        };
        Ok(Self {
            orders,
            thread: spawn("auth0-metrics", Box::new(body))?,
            finished,
        })
    }

    /// Has these files written, and deletes those of earlier calls that are not among them. If the thread is still
    /// busy, nothing happens: the next call brings newer values.
    pub(crate) fn write(&self, paths: Vec<PathBuf>, snapshot: &Arc<Snapshot>) {
        let snapshot = Arc::clone(snapshot);
        let _ = self.orders.try_send(Order { paths, snapshot });
    }

    /// Deletes the files and ends the thread. Waits for that, but not for long.
    pub(crate) fn stop(self) {
        drop(self.orders);
        threads::wait_for_writer(self.thread, &self.finished);
    }
}

struct Writer {
    log: Log,
    files: Vec<MetricsFile>,
}

/// A file of which an order told.
struct MetricsFile {
    path: PathBuf,
    /// Whether it was ever written. So it is this thread's, and is deleted in the end.
    exists: bool,
    /// Whether it could not be written the last time.
    failed: bool,
}

impl Writer {
    fn new(log: Log) -> Self {
        Self {
            log,
            files: Vec::new(),
        }
    }

    fn run(mut self, orders: &Receiver<Order>) {
        for order in orders {
            self.carry_out(order);
        }
        self.delete_all_but(&[]);
    }

    fn carry_out(&mut self, Order { paths, snapshot }: Order) {
        self.delete_all_but(&paths);
        for path in paths {
            self.write(path, &snapshot);
        }
    }

    fn delete_all_but(&mut self, paths: &[PathBuf]) {
        let obsolete = self
            .files
            .extract_if(.., |file| !paths.contains(&file.path));
        for file in obsolete.filter(|file| file.exists) {
            let _ = fs::remove_file(file.path);
        }
    }

    fn write(&mut self, path: PathBuf, snapshot: &Snapshot) {
        let text = text::render(snapshot, TextFormat::of(&path));
        let written = replace(&path, text.as_bytes());
        let known = self.files.iter().position(|file| file.path == path);
        let place = known.unwrap_or_else(|| {
            self.files.push(MetricsFile {
                path: path.clone(),
                exists: false,
                failed: false,
            });
            self.files.len() - 1
        });
        let file = &mut self.files[place];
        let failed_before = std::mem::replace(&mut file.failed, written.is_err());
        file.exists |= written.is_ok();
        match (written, failed_before) {
            (Err(why), false) => MetricsFileReport::NotWritten { path, why }.tell(&self.log),
            (Ok(()), true) => MetricsFileReport::WrittenAgain { path }.tell(&self.log),
            (Err(_), true) | (Ok(()), false) => {}
        }
    }
}

/// Replaces a file whole. The temporary file begins with a dot and does not end with `.prom`, so nobody takes it for
/// another file of metrics.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.new-{}", std::process::id()));
    // A killed process with the same process ID may have left its file behind.
    let _ = fs::remove_file(&temporary);
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&temporary)?;
        // Whatever the broker's umask is.
        file.set_permissions(Permissions::from_mode(MODE))?;
        file.write_all(bytes)?;
        fs::rename(&temporary, path)
    };
    let written = write();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Observed;

    fn order(paths: &[&Path], connected: u64) -> Order {
        let observed = Observed {
            connected,
            ..Observed::default()
        };
        Order {
            paths: paths.iter().map(|path| path.to_path_buf()).collect(),
            snapshot: Arc::new(Snapshot::new(&observed)),
        }
    }

    #[test]
    fn a_file_is_replaced_whole_for_everybody_to_read_and_deleted_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one.prom"), dir.path().join("other"));
        let log = Log::default();
        let mut writer = Writer::new(log.clone());
        writer.carry_out(order(&[&one, &other], 5));
        let text = fs::read_to_string(&one).unwrap();
        assert!(text.contains("\nmosquitto_auth0_sessions{state=\"connected\"} 5\n"));
        assert!(fs::read_to_string(&other).unwrap().ends_with("# EOF\n"));
        let mode = fs::metadata(&one).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        writer.carry_out(order(&[&one], 6));
        assert!(fs::read_to_string(&one).unwrap().contains("} 6\n"));
        let left = fs::read_dir(&dir).unwrap().count();
        assert_eq!(
            left, 1,
            "no file of another configuration, and no temporary one"
        );
        let (sender, orders) = sync_channel(1);
        sender.send(order(&[&one], 7)).unwrap();
        drop(sender);
        writer.run(&orders);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        assert!(log.take().is_empty());
    }

    #[test]
    fn a_file_that_cannot_be_written_is_reported_once_and_again_when_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("missing");
        let path = folder.join("a.prom");
        let log = Log::default();
        let mut writer = Writer::new(log.clone());
        writer.carry_out(order(&[&path], 1));
        writer.carry_out(order(&[&path], 2));
        let lines = log.take();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let (_, line) = &lines[0];
        assert!(
            line.contains("cannot be written") && line.contains("; fix: "),
            "{line}"
        );
        fs::create_dir(&folder).unwrap();
        writer.carry_out(order(&[&path], 3));
        writer.carry_out(order(&[&path], 4));
        let lines = log.take();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].1.contains("is written again"));
    }

    #[test]
    fn a_file_that_could_not_be_written_again_is_deleted_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let (path, others) = (dir.path().join("a.prom"), dir.path().join("b.prom"));
        fs::write(&others, "not ours").unwrap();
        let mut writer = Writer::new(Log::default());
        writer.carry_out(order(&[&path], 1));
        for name in ["a", "b"] {
            let pid = std::process::id();
            fs::create_dir(dir.path().join(format!(".{name}.prom.new-{pid}"))).unwrap();
        }
        writer.carry_out(order(&[&path, &others], 2));
        assert!(
            fs::read_to_string(&path).unwrap().contains("} 1\n"),
            "it is old"
        );
        writer.delete_all_but(&[]);
        assert!(!path.exists() && others.exists());
    }

    #[test]
    fn the_thread_ends_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.prom");
        let files = MetricsFiles::start(threads::plain, Log::default()).unwrap();
        let Order { paths, snapshot } = order(&[&path], 1);
        files.write(paths, &snapshot);
        files.stop();
        assert!(!path.exists());
    }
}
