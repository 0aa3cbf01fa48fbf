//! Runs a local Auth0 tenant for the demo, until stdin closes.
//!
//! Prints lines for mosquitto.conf, and for each device a user name, a password, a token, and commands that publish
//! with them. The lines are in a file, too.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};
use testbed::tenant::{Device, Tenant};

const USAGE: &str = "\
usage: tenant [--port N] [--dir DIR] [--device NAME PASSWORD TOPICS]... [--broker-port N] [--forever]

  --port N         listen on 127.0.0.1:N instead of any free port
  --dir DIR        write ca.pem, auth0.secret and auth0.conf into DIR instead of a temporary directory
  --device         add a device, or replace the built-in one of that name; TOPICS are separated by commas
  --broker-port N  the port on which your broker listens, for the commands that are printed (1883)
  --forever        run until killed, not until stdin closes";

struct TenantArguments {
    port: u16,
    dir: Option<String>,
    devices: Vec<Device>,
    broker_port: u16,
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
    let mut arguments = TenantArguments {
        port: 0,
        dir: None,
        devices: Vec::new(),
        broker_port: 1883,
        forever: false,
    };
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
            "--broker-port" => arguments.broker_port = words.next()?.parse().ok()?,
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
    let options = format!(
        "plugin_opt_domain {}\nplugin_opt_ca_file {}\nplugin_opt_audience {}\nplugin_opt_client_id {}\n\
         plugin_opt_client_secret_file {}\nplugin_opt_connection {}\n",
        tenant.domain(),
        tenant.ca_file().display(),
        settings.audience,
        settings.client_id,
        secret.display(),
        settings.connections[0],
    );
    let conf = tenant.ca_file().with_file_name("auth0.conf");
    fs::write(&conf, &options)?;
    // Whatever the umask is: the broker's user reads the first one, and the group of the second one.
    fs::set_permissions(tenant.ca_file(), Permissions::from_mode(0o644))?;
    fs::set_permissions(&secret, Permissions::from_mode(0o640))?;
    println!(
        "# For mosquitto.conf, below the line `plugin` (also in {}):\n{}",
        conf.display(),
        options.trim_end()
    );
    for device in tenant.devices() {
        print_device(
            &device,
            &tenant.token(&device.username),
            arguments.broker_port,
        );
    }
    if arguments.forever {
        loop {
            std::thread::park();
        }
    }
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    Ok(())
}

fn print_device(device: &Device, token: &str, broker_port: u16) {
    let Device {
        username, password, ..
    } = device;
    println!("\n# A device:\nusername {username}\npassword {password}\ntoken {token}");
    let topics = device.topics.as_ref().and_then(Value::as_array);
    let topics: Vec<_> = topics
        .into_iter()
        .flatten()
        .flat_map(Value::as_str)
        .collect();
    let is_plain = |topic: &&&str| !topic.contains(['+', '#']);
    let publish = |username: &str, password: &str, topic: &str| {
        let [username, password, topic] = [username, password, topic].map(quoted);
        println!(
            "mosquitto_pub -h localhost -p {broker_port} -V 5 -q 1 -d -u {username} -P {password} -t {topic} -m 20.5"
        );
    };
    if let Some(own) = topics.iter().find(is_plain) {
        println!("# It publishes with its password, and with its token:");
        publish(username, password, own);
        publish("JWT", token, own);
    }
    let other = "door/open";
    if topics
        .iter()
        .all(|topic| is_plain(&topic) && *topic != other)
    {
        println!("# It may not publish this:");
        publish(username, password, other);
        publish("JWT", token, other);
    }
}

/// Quotes a word for the shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Writes the client secret to a file that its owner and its group can read: in a folder with the set-group-ID bit,
/// that is the folder's group, which can be the broker's. The plugin refuses a file that everybody can read.
fn write_secret(file: &Path, secret: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o640);
    options.open(file)?.write_all(secret.as_bytes())
}
