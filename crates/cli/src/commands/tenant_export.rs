//! `tenant export`: writes what the tenant needs, or compares it.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use serde_json::{Value, json};

use auth::config::WrittenOptions;

use crate::{
    arguments::TenantExport,
    configuration,
    exit::Exit,
    output::{Failure, Outcome},
    tenant_export::TenantNeeds,
};

/// The files, and whether each was as it is now.
struct Exported {
    files: Vec<(PathBuf, bool)>,
    is_check: bool,
}

impl Outcome for Exported {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for (path, is_same) in &self.files {
            let what = match (is_same, self.is_check) {
                (true, _) => "is up to date",
                (false, true) => "differs",
                (false, false) => "is written",
            };
            writeln!(out, "{} {what}", path.display())?;
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let file =
            |(path, is_same): &(PathBuf, bool)| json!({ "file": path, "up_to_date": is_same });
        json!({ "files": self.files.iter().map(file).collect::<Vec<_>>() })
    }

    fn exit(&self) -> Exit {
        let differs = self.files.iter().any(|(_, is_same)| !is_same);
        match self.is_check && differs {
            true => Exit::No,
            false => Exit::Yes,
        }
    }
}

/// Writes the files, or compares them.
///
/// # Errors
///
/// Returns a failure if the configuration cannot be read, or a file not be written.
pub(crate) fn run(arguments: &TenantExport) -> Result<Box<dyn Outcome>, Failure> {
    let plugin = configuration::instances(&arguments.conf)?.swap_remove(0);
    let options = WrittenOptions::read(&plugin.options)
        .map_err(|error| Failure::new(format!("{}: {error}", arguments.conf.display())))?;
    let mut files = Vec::new();
    for (name, text) in TenantNeeds::of(&options, arguments.roles)?.files() {
        let path = arguments.to.join(name);
        let is_same = fs::read_to_string(&path).is_ok_and(|before| before == text);
        if !is_same && !arguments.check {
            let written = fs::create_dir_all(path.parent().expect("it is in a folder"))
                .and_then(|()| fs::write(&path, text));
            written.map_err(|why| {
                Failure::new(format!("{} cannot be written: {why}", path.display()))
            })?;
        }
        files.push((path, is_same));
    }
    let is_check = arguments.check;
    Ok(Box::new(Exported { files, is_check }))
}
