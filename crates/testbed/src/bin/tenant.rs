//! Runs a local Auth0 tenant for the demo, until stdin closes.
//!
//! Prints lines for mosquitto.conf, and for each device a user name, a password and a token.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use testbed::tenant::{Device, Tenant};

const USAGE: &str = "\
usage: tenant [--port N] [--dir DIR] [--device NAME PASSWORD TOPICS]... [--forever]

  --port N     listen on 127.0.0.1:N instead of any free port
  --dir DIR    write ca.pem and auth0.secret into DIR instead of a temporary directory
  --device     add a device, or replace the built-in one of that name; TOPICS are separated by commas
  --forever    run until killed, not until stdin closes";

#[derive(Default)]
struct TenantArguments {
    port: u16,
    dir: Option<String>,
    devices: Vec<Device>,
    forever: bool,
}

fn main() -> ExitCode {
    let Some(arguments) = parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tenant: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Option<TenantArguments> {
    let mut arguments = TenantArguments::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--port" => arguments.port = words.next()?.parse().ok()?,
            "--dir" => arguments.dir = Some(words.next()?),
            "--device" => {
                let (name, password) = (words.next()?, words.next()?);
                let topics = words.next()?;
                let topics: Vec<&str> = topics.split(',').filter(|t| !t.is_empty()).collect();
                let device = Device::new(&name, &password).topics(json!(topics));
                arguments.devices.push(device);
            }
            "--forever" => arguments.forever = true,
            _ => return None,
        }
    }
    Some(arguments)
}

fn run(arguments: TenantArguments) -> io::Result<()> {
    let mut builder = Tenant::builder().port(arguments.port);
    for device in arguments.devices {
        builder = builder.device(device);
    }
    if let Some(dir) = arguments.dir {
        builder = builder.dir(dir);
    }
    let tenant = builder.start()?;
    let settings = tenant.settings();
    let secret = tenant.ca_file().with_file_name("auth0.secret");
    write_secret(&secret, &settings.client_secret)?;
    println!("# For mosquitto.conf, after the line `plugin`:");
    println!("plugin_opt_domain {}", tenant.domain());
    println!("plugin_opt_ca_file {}", tenant.ca_file().display());
    println!("plugin_opt_audience {}", settings.audience);
    println!("plugin_opt_client_id {}", settings.client_id);
    println!("plugin_opt_client_secret_file {}", secret.display());
    println!("plugin_opt_connection {}", settings.connections[0]);
    for device in tenant.devices() {
        println!("\n# A device:");
        println!("username {}", device.username);
        println!("password {}", device.password);
        println!("token {}", tenant.token(&device.username));
    }
    if arguments.forever {
        loop {
            std::thread::park();
        }
    }
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    Ok(())
}

/// Writes the client secret to a file of which the plugin does not say that others can read it.
fn write_secret(file: &Path, secret: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(file)?.write_all(secret.as_bytes())
}
