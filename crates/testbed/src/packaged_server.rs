//! An OpenID Connect server that npm or pip installs, with TLS on a free port of the loopback interface. A program in
//! `tests/servers` configures it, writes its issuer to the output once it listens, and ends when its input does.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use ureq::Agent;

use crate::glewlwyd::agent;
use crate::pki::Authority;
use crate::scratch::Scratch;

const AUTHORITY: &str = "authority.pem";
const LOG: &str = "server.log";

/// A running server. Dropping it stops it.
pub(crate) struct PackagedServer {
    child: Child,
    dir: Scratch,
    agent: Agent,
    issuer: String,
}

/// Prints that the cases against this server are left out, and why.
pub fn note_left_out(name: &str, why: &str) {
    // Not `eprintln!`, whose output the test harness hides while the test passes.
    let note = format!("left out: the cases against {name} ({})\n", why.trim());
    let _ = io::stderr().write_all(note.as_bytes());
}

impl PackagedServer {
    /// Starts a server with this command, to which the file with the settings is added. To the settings its
    /// certificate and key are added.
    pub(crate) fn start(
        name: &str,
        command: &mut Command,
        mut settings: Value,
    ) -> Result<Self, String> {
        let authority = Authority::new(&format!("{name}'s authority"));
        let leaf = authority.issue(&["localhost", "127.0.0.1"]);
        settings["key"] = json!(leaf.key_pem);
        settings["certificate"] = json!(leaf.cert_pem);
        let dir = Scratch::new(&format!("lab-{name}")).map_err(|why| why.to_string())?;
        let written = dir
            .write("settings.json", settings.to_string())
            .and_then(|settings| {
                dir.write(AUTHORITY, authority.pem())?;
                Ok((settings, fs::File::create_new(dir.path().join(LOG))?))
            });
        let (settings, log) = written.map_err(|why| why.to_string())?;
        // It ends when its input does, also if this process is killed.
        let child = command
            .arg(settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|why| format!("{}: {why}", command.get_program().display()))?;
        let mut server = Self {
            child,
            dir,
            agent: agent(&authority)?,
            issuer: String::new(),
        };
        if let Some(output) = &mut server.child.stdout {
            let read = BufReader::new(output).read_line(&mut server.issuer);
            read.map_err(|why| why.to_string())?;
        }
        server.issuer.truncate(server.issuer.trim_end().len());
        match server.issuer.is_empty() {
            true => Err(format!("{name} ended: {}", server.log())),
            false => Ok(server),
        }
    }

    /// Returns the issuer, byte for byte as in discovery and tokens.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the authority's certificate, in PEM, which clients of this server have to trust.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.dir.path().join(AUTHORITY)
    }

    /// Sends a form to this path and returns the answer, which has to be a JSON object.
    pub(crate) fn post(&self, path: &str, form: &[(&str, &str)]) -> Result<Value, String> {
        let request = self.agent.post(format!("{}{path}", self.issuer));
        let answer = request.send_form(form.iter().copied());
        let body = answer.and_then(|mut answer| answer.body_mut().read_to_string());
        let body = body.map_err(|why| format!("{why}; {}", self.log()))?;
        match serde_json::from_str(&body) {
            Ok(answer @ Value::Object(_)) => Ok(answer),
            _ => Err(format!("{body}; {}", self.log())),
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join(LOG)).unwrap_or_default()
    }
}

impl Drop for PackagedServer {
    fn drop(&mut self) {
        // This is our own child, which is waited for only here, so no other process can have its ID.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns this member of a token endpoint's answer.
pub(crate) fn token_in(answer: &Value, member: &str) -> Result<String, String> {
    let token = answer[member].as_str().map(str::to_owned);
    token.ok_or_else(|| answer.to_string())
}
