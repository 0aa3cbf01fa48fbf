//! `doctor`: talks to the tenant, and says what is wrong on either side.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::{
    arguments::Doctor,
    configuration,
    doctor::{
        Examination, Wishes,
        finding::{Finding, Severity},
        plan::{Omitted, Sending},
    },
    exit::Exit,
    messages::doctor::{self as messages, Words},
    output::{self, Failure, Outcome},
    secrets,
};

/// What was found.
struct Diagnosis {
    conf: String,
    tenant: Option<String>,
    is_auth0: bool,
    sends: Vec<Sending>,
    findings: Vec<Finding>,
    omitted: Vec<Omitted>,
}

impl Outcome for Diagnosis {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for finding in &self.findings {
            let (_, severity) = finding.kind();
            let Words { seen, means, mend } = messages::words(finding, self.is_auth0);
            let (before, label, after) = output::label(severity);
            writeln!(out, "{before}{label:<9}{after} {seen}")?;
            let mend_label = if severity == Severity::Note {
                "see:"
            } else {
                "fix:"
            };
            for (label, text) in [("devices:", means), (mend_label, mend)] {
                if let Some(text) = text {
                    writeln!(out, "          {label} {text}")?;
                }
            }
        }
        for omitted in &self.omitted {
            writeln!(out, "not seen  {}", messages::omitted(*omitted))?;
        }
        writeln!(out, "{}", messages::summary(&self.findings))
    }

    fn json(&self) -> Value {
        let finding = |finding: &Finding| {
            let (code, severity) = finding.kind();
            let Words { seen, means, mend } = messages::words(finding, self.is_auth0);
            json!({
                "finding": code, "severity": severity.name(), "seen": seen, "means": means, "fix": mend,
            })
        };
        json!({
            "configuration": self.conf,
            "tenant": self.tenant,
            "sends": self.sends.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
            "not_examined": self.omitted.iter().map(|one| messages::omitted(*one)).collect::<Vec<_>>(),
        })
    }

    fn exit(&self) -> Exit {
        let severities = self.findings.iter().map(|finding| finding.kind().1);
        match severities.max() {
            Some(Severity::Wrong) => Exit::No,
            Some(Severity::Unreached) => Exit::Unknown,
            _ => Exit::Yes,
        }
    }
}

/// Examines the tenant.
///
/// # Errors
///
/// Returns a failure if the file does not load the plugin, or if a password or a token cannot be read.
pub(crate) fn run(arguments: &Doctor) -> Result<Box<dyn Outcome>, Failure> {
    let conf = arguments.configuration.conf.display().to_string();
    let config = match configuration::read(&arguments.configuration.conf)? {
        Ok(config) => config,
        Err(mistakes) => {
            return Ok(Box::new(Diagnosis {
                conf,
                tenant: None,
                is_auth0: true,
                sends: Vec::new(),
                findings: mistakes
                    .iter()
                    .map(|mistake| Finding::ConfigurationWrong(mistake.to_string()))
                    .collect(),
                omitted: vec![Omitted::AfterWrong],
            }));
        }
    };
    let user = match &arguments.username {
        Some(username) => {
            let password = secrets::password(username, arguments.password_file.as_deref())?;
            Some((username.clone(), password))
        }
        None => None,
    };
    let token = arguments.token.as_deref().map(secrets::token).transpose()?;
    let wishes = Wishes {
        offline: arguments.offline,
        probe: arguments.probe_login,
        user,
        token,
    };
    let mut examination = Examination::new(config, &arguments.configuration.conf, wishes);
    let mut sends = Vec::new();
    examination.run(|planned| {
        output::announce(&messages::announcement(planned));
        sends = planned.to_vec();
    });
    Ok(Box::new(Diagnosis {
        conf,
        tenant: Some(examination.tenant().to_owned()),
        is_auth0: examination.is_auth0,
        sends,
        findings: examination.findings,
        omitted: examination.omitted,
    }))
}
