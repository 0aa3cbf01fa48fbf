//! `doctor`: talks to the tenant, and says what is wrong on either side.

use std::{
    io::{self, Write},
    ptr,
};

use serde_json::{Value, json};

use crate::{
    arguments::Doctor,
    configuration,
    device::peek,
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
    /// About each issuer.
    issuers: Vec<IssuerDiagnosis>,
}

/// What was found about one issuer.
struct IssuerDiagnosis {
    /// `None` if the configuration is so wrong that it names none.
    tenant: Option<String>,
    is_auth0: bool,
    sends: Vec<Sending>,
    findings: Vec<Finding>,
    omitted: Vec<Omitted>,
}

impl Outcome for Diagnosis {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for issuer in &self.issuers {
            if self.issuers.len() > 1 {
                writeln!(out, "{}:", issuer.tenant.as_deref().unwrap_or_default())?;
            }
            issuer.write(out)?;
        }
        let findings = self.issuers.iter().flat_map(|issuer| &issuer.findings);
        writeln!(out, "{}", messages::summary(findings))
    }

    fn json(&self) -> Value {
        let all = |list: fn(&IssuerDiagnosis) -> Vec<Value>| -> Vec<Value> {
            self.issuers.iter().flat_map(list).collect()
        };
        let tenants = self.issuers.iter().map(|issuer| &issuer.tenant);
        json!({
            "configuration": self.conf,
            "tenants": tenants.flatten().collect::<Vec<_>>(),
            "sends": all(IssuerDiagnosis::sends_json),
            "findings": all(IssuerDiagnosis::findings_json),
            "not_examined": all(IssuerDiagnosis::omitted_json),
        })
    }

    fn exit(&self) -> Exit {
        let findings = self.issuers.iter().flat_map(|issuer| &issuer.findings);
        match findings.map(|finding| finding.kind().1).max() {
            Some(Severity::Wrong) => Exit::No,
            Some(Severity::Unreached) => Exit::Unknown,
            _ => Exit::Yes,
        }
    }
}

impl IssuerDiagnosis {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for finding in &self.findings {
            let (_, severity) = finding.kind();
            let Words { seen, means, fix } = messages::words(finding, self.is_auth0);
            let (before, label, after) = output::label(severity);
            writeln!(out, "{before}{label:<9}{after} {seen}")?;
            let fix_label = if severity == Severity::Note {
                "see:"
            } else {
                "fix:"
            };
            for (label, text) in [("devices:", means), (fix_label, fix)] {
                if let Some(text) = text {
                    writeln!(out, "          {label} {text}")?;
                }
            }
        }
        for omitted in &self.omitted {
            writeln!(out, "not seen  {}", messages::omitted(*omitted))?;
        }
        Ok(())
    }

    fn sends_json(&self) -> Vec<Value> {
        let sends = self.sends.iter();
        sends.map(|one| json!(one.to_string())).collect()
    }

    fn findings_json(&self) -> Vec<Value> {
        let finding = |finding: &Finding| {
            let (code, severity) = finding.kind();
            let Words { seen, means, fix } = messages::words(finding, self.is_auth0);
            json!({
                "finding": code, "severity": severity.name(), "tenant": self.tenant, "seen": seen,
                "means": means, "fix": fix,
            })
        };
        self.findings.iter().map(finding).collect()
    }

    fn omitted_json(&self) -> Vec<Value> {
        let omitted = self.omitted.iter();
        omitted.map(|one| json!(messages::omitted(*one))).collect()
    }
}

/// Examines the tenant.
///
/// # Errors
///
/// Returns a failure if the file does not load the plugin, or if a password or a token cannot be read.
pub(crate) fn run(arguments: &Doctor) -> Result<Box<dyn Outcome>, Failure> {
    let conf = arguments.configuration.conf.display().to_string();
    let config = match configuration::read(&arguments.configuration.conf, arguments.port)? {
        Ok(config) => config,
        Err(mistakes) => {
            let mistakes = mistakes.iter().map(ToString::to_string);
            let issuer = IssuerDiagnosis {
                tenant: None,
                is_auth0: true,
                sends: Vec::new(),
                findings: mistakes.map(Finding::ConfigurationWrong).collect(),
                omitted: vec![Omitted::AfterWrong],
            };
            let issuers = vec![issuer];
            return Ok(Box::new(Diagnosis { conf, issuers }));
        }
    };
    let mut user = match &arguments.username {
        Some(username) => {
            let password = secrets::password(username, arguments.password_file.as_deref())?;
            Some((username.clone(), password))
        }
        None => None,
    };
    let mut token = arguments.token.as_deref().map(secrets::token).transpose()?;
    let claims = token.as_deref().and_then(peek).unwrap_or_default();
    let named = config.issuer_named(claims.get("iss").and_then(Value::as_str));
    let mut issuers = Vec::new();
    for (place, issuer) in config.issuers.iter().enumerate() {
        let is_asked = ptr::eq(&**issuer, config.password_issuer());
        let wishes = Wishes {
            offline: arguments.offline,
            probe: arguments.probe_login && is_asked,
            seen_around: place > 0,
            user: user.take_if(|_| is_asked),
            token: token.take_if(|_| ptr::eq(&**issuer, named)),
        };
        let conf = &arguments.configuration.conf;
        let mut examination = Examination::new(config.clone(), issuer, conf, wishes);
        let mut sends = Vec::new();
        examination.run(|planned| {
            output::announce(&messages::announcement(planned));
            sends = planned.to_vec();
        });
        issuers.push(IssuerDiagnosis {
            tenant: Some(examination.tenant().to_owned()),
            is_auth0: examination.is_auth0,
            sends,
            findings: examination.findings,
            omitted: examination.omitted,
        });
    }
    Ok(Box::new(Diagnosis { conf, issuers }))
}
