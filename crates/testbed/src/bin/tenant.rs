//! Runs a local Auth0 tenant for the demo, until stdin closes.
//!
//! Prints `name value` lines with the names of the plugin's options, so that `sed s/^/plugin_opt_/` turns the
//! first block into lines for mosquitto.conf.

use std::io;
use std::process::ExitCode;

use serde_json::json;
use testbed::tenant::{Device, Tenant};

const USAGE: &str = "\
usage: tenant [--port N] [--dir DIR] [--device NAME PASSWORD TOPICS]... [--forever]

  --port N     listen on 127.0.0.1:N instead of any free port
  --dir DIR    write ca.pem into DIR instead of a temporary directory
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
    println!("domain {}", tenant.domain());
    println!("ca_file {}", tenant.ca_file().display());
    println!("audience {}", settings.audience);
    println!("client_id {}", settings.client_id);
    println!("client_secret {}", settings.client_secret);
    println!("connection {}", settings.connections[0]);
    for device in tenant.devices() {
        println!();
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
