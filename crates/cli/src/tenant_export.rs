//! What a tenant of Auth0 needs for a configuration, as files for Auth0's Deploy CLI and for Terraform.
//!
//! The same configuration yields the same bytes, so that the files can be committed and compared.

use std::{collections::BTreeSet, fmt::Write, fs, path::Path};

use serde_json::Value;

use acl::policy_file::PolicyFile;
use auth::config::WrittenOptions;

use crate::output::Failure;

/// The file of the Action, as both tools name it.
pub(crate) const ACTION_FILE: &str = "actions/mqtt-claims.js";

/// The public key of the application, beside the Terraform file.
const PUBLIC_KEY_FILE: &str = "mqtt-broker.pub.pem";

/// The name of the Action.
const ACTION: &str = "mqtt-claims";

/// The name of the role of administrators.
const ADMINISTRATORS: &str = "mqtt-administrators";

/// The descriptions of the roles.
const ADMINISTRATOR_ROLE: &str = "May list sessions, disconnect clients and more";
const POLICY_ROLE: &str = "Named by rules of the broker's policy file";

/// What the tenant needs.
#[derive(Debug, Default)]
pub(crate) struct TenantNeeds {
    /// The identifier of the API.
    audience: String,
    /// With which algorithm the API signs.
    algorithm: String,
    /// The permissions of the API.
    permissions: BTreeSet<String>,
    /// The roles that the policy file mentions, if they are wanted.
    roles: BTreeSet<String>,
    /// The permission of administrators.
    admin_permission: Option<String>,
    /// Whether devices sign in with passwords, and from which connection.
    passwords: Option<Option<String>>,
    /// How the application authenticates.
    authentication: Authentication,
    /// The claims that the Action sets, and the JavaScript of their values.
    claims: Vec<(String, &'static str)>,
}

/// How the application authenticates.
#[derive(Debug)]
enum Authentication {
    /// With its secret, by the method with this name.
    Secret(String),
    /// With its private key (`private_key_jwt`), which signs with this algorithm.
    Key(String),
}

impl Default for Authentication {
    fn default() -> Self {
        Self::Secret("client_secret_post".to_owned())
    }
}

impl Authentication {
    fn of(options: &WrittenOptions) -> Self {
        let text = |name: &str| options.text(name).map(str::to_owned);
        let method = text("token_endpoint_auth_method");
        match (text("client_assertion_key_file"), method) {
            (Some(_), _) => {
                let algorithm = text("client_assertion_algorithm");
                Self::Key(algorithm.unwrap_or_else(|| "RS256".to_owned()))
            }
            (None, Some(method)) => Self::Secret(method),
            (None, None) => Self::default(),
        }
    }

    /// Returns the line of the Deploy CLI's file. Auth0 takes a public key when an application is made, and not with an
    /// import.
    fn yaml(&self) -> String {
        match self {
            Self::Secret(method) => format!("    token_endpoint_auth_method: {}", quoted(method)),
            Self::Key(algorithm) => format!(
                "    # Its method is private_key_jwt ({}), which an import cannot set: Applications > MQTT broker > \
                 Credentials.",
                input::text::line(algorithm)
            ),
        }
    }

    /// Returns the attributes of Terraform's `auth0_client_credentials`.
    fn terraform(&self) -> String {
        match self {
            Self::Secret(method) => format!("  authentication_method = {}\n", hcl(method)),
            Self::Key(algorithm) => format!(
                "  authentication_method = \"private_key_jwt\"\n\n  \
                 # openssl pkey -in CLIENT_ASSERTION_KEY_FILE -pubout -out {PUBLIC_KEY_FILE}\n  \
                 private_key_jwt {{\n    credentials {{\n      name            = \"mqtt-broker\"\n      \
                 credential_type = \"public_key\"\n      algorithm       = {}\n      \
                 pem             = file(\"${{path.module}}/{PUBLIC_KEY_FILE}\")\n    }}\n  }}\n",
                hcl(algorithm)
            ),
        }
    }
}

impl TenantNeeds {
    /// Reads options, and the policy file that they name. The roles that it mentions are left out unless they are
    /// wanted: a tenant has most of them already, and the Deploy CLI would take their permissions away.
    ///
    /// # Errors
    ///
    /// Returns a failure if something is missing, or the policy file is wrong.
    pub(crate) fn of(options: &WrittenOptions, with_roles: bool) -> Result<Self, Failure> {
        let text = |name: &str| options.text(name).map(str::to_owned);
        let list = |name: &str| -> Vec<String> {
            let value = options.text(name).unwrap_or_default();
            let words = value.split(',').map(|word| word.trim().to_owned());
            words.filter(|word| !word.is_empty()).collect()
        };
        let audience = list("audience").into_iter().next();
        let mut needs = Self {
            audience: audience.ok_or_else(|| Failure::new("the option audience is missing"))?,
            algorithm: list("algorithms")
                .into_iter()
                .next()
                .unwrap_or_else(|| "RS256".to_owned()),
            admin_permission: text("admin_permission"),
            passwords: text("client_id").map(|_| text("connection")),
            authentication: Authentication::of(options),
            ..Self::default()
        };
        needs.permissions.extend(needs.admin_permission.clone());
        // `topics_pointer` finds what an Action of the operator's own has put there.
        if list("rights").iter().any(|word| word == "topics") && text("topics_pointer").is_none() {
            let claim = text("topics_claim").unwrap_or_else(|| "topics".to_owned());
            needs.claims.push((claim, "event.user.app_metadata.topics"));
        }
        if let Some(claim) = text("client_id_claim") {
            needs
                .claims
                .push((claim, "event.user.app_metadata.client_id"));
        }
        if let Some(path) = options.text("policy_file") {
            needs.read_policy(Path::new(path))?;
        }
        if !with_roles {
            needs.roles.clear();
        }
        Ok(needs)
    }

    fn read_policy(&mut self, path: &Path) -> Result<(), Failure> {
        let shown = path.display();
        let text = fs::read_to_string(path)
            .map_err(|why| Failure::new(format!("{shown} cannot be read: {why}")))?;
        PolicyFile::compile(&text).map_err(|why| Failure::new(format!("{shown}: {why}")))?;
        let table: toml::Table =
            toml::from_str(&text).map_err(|why| Failure::new(format!("{shown}: {why}")))?;
        let rules = table.get("rule").and_then(toml::Value::as_array);
        for rule in rules.into_iter().flatten() {
            let when = rule.get("when");
            let named = |name: &str| when.and_then(|when| when.get(name)).map(texts);
            self.permissions
                .extend(named("permission").unwrap_or_default());
            self.roles.extend(named("role").unwrap_or_default());
        }
        if let Some(claim) = table.get("roles_claim").and_then(toml::Value::as_str) {
            let value = "event.authorization?.roles ?? []";
            self.claims.push((claim.to_owned(), value));
        }
        Ok(())
    }

    /// Returns the files: their names in the folder, and what is in them.
    pub(crate) fn files(&self) -> Vec<(&'static str, String)> {
        let mut files = vec![("tenant.yaml", self.yaml()), ("main.tf", self.terraform())];
        if !self.claims.is_empty() {
            files.push((ACTION_FILE, self.action()));
        }
        files
    }

    fn grant(connection: Option<&String>) -> &'static str {
        match connection {
            Some(_) => "http://auth0.com/oauth/grant-type/password-realm",
            None => "password",
        }
    }

    /// Returns the Action, which copies what the plugin reads into both tokens.
    fn action(&self) -> String {
        let mut text = String::from(
            "// Generated by `mosquitto-auth0 tenant export`. Trigger: Login / Post Login.\n\
             exports.onExecutePostLogin = async (event, api) => {\n  const claims = {\n",
        );
        for (name, value) in &self.claims {
            writeln!(text, "    {}: {value},", quoted(name)).expect("a String takes everything");
        }
        text.push_str(
            "  };\n  for (const [name, value] of Object.entries(claims)) {\n    \
             if (value === undefined) continue;\n    api.accessToken.setCustomClaim(name, value);\n    \
             api.idToken.setCustomClaim(name, value);\n  }\n};\n",
        );
        text
    }

    fn yaml(&self) -> String {
        let mut lines: Vec<String> = vec![
            "# Generated by `mosquitto-auth0 tenant export` for Auth0's Deploy CLI: a0deploy import -i tenant.yaml".into(),
            "# Leave AUTH0_ALLOW_DELETE off: what is not listed here would be deleted.".into(),
            "# An import replaces the permissions of this API and of each role listed here, also without".into(),
            "# AUTH0_ALLOW_DELETE. Add those that the API and the roles have already.".into(),
            "resourceServers:".into(),
            "  - name: \"MQTT\"".into(),
            format!("    identifier: {}", quoted(&self.audience)),
            format!("    signing_alg: {}", quoted(&self.algorithm)),
            "    enforce_policies: true".into(),
            "    token_dialect: \"access_token_authz\"".into(),
            "    skip_consent_for_verifiable_first_party_clients: true".into(),
        ];
        // An empty list would take away the permissions that the API has.
        if !self.permissions.is_empty() {
            lines.push("    scopes:".into());
        }
        for permission in &self.permissions {
            lines.push(format!("      - value: {}", quoted(permission)));
            lines.push(format!("        description: {}", quoted(permission)));
        }
        if let Some(connection) = &self.passwords {
            lines.extend([
                "clients:".into(),
                "  - name: \"MQTT broker\"".into(),
                "    app_type: \"regular_web\"".into(),
                "    oidc_conformant: true".into(),
                self.authentication.yaml(),
                "    is_token_endpoint_ip_header_trusted: true".into(),
                "    grant_types:".into(),
                format!("      - {}", quoted(Self::grant(connection.as_ref()))),
                "    jwt_configuration:".into(),
                "      alg: \"RS256\"".into(),
            ]);
        }
        if !self.roles.is_empty() || self.admin_permission.is_some() {
            lines.push("roles:".into());
        }
        for role in &self.roles {
            lines.extend([
                format!("  - name: {}", quoted(role)),
                format!("    description: {}", quoted(POLICY_ROLE)),
                "    permissions: []".into(),
            ]);
        }
        if let Some(permission) = &self.admin_permission {
            lines.extend([
                format!("  - name: {}", quoted(ADMINISTRATORS)),
                format!("    description: {}", quoted(ADMINISTRATOR_ROLE)),
                "    permissions:".into(),
                format!("      - permission_name: {}", quoted(permission)),
                format!(
                    "        resource_server_identifier: {}",
                    quoted(&self.audience)
                ),
            ]);
        }
        if !self.claims.is_empty() {
            lines.extend([
                "actions:".into(),
                format!("  - name: {}", quoted(ACTION)),
                format!("    code: {}", quoted(&format!("./{ACTION_FILE}"))),
                "    runtime: \"node22\"".into(),
                "    dependencies: []".into(),
                "    secrets: []".into(),
                "    deployed: true".into(),
                "    supported_triggers:".into(),
                "      - id: \"post-login\"".into(),
                "        version: \"v3\"".into(),
                "# This is the whole flow. Add the Actions that it has already.".into(),
                "triggers:".into(),
                "  post-login:".into(),
                format!("    - action_name: {}", quoted(ACTION)),
                format!("      display_name: {}", quoted(ACTION)),
            ]);
        }
        lines.join("\n") + "\n"
    }

    fn terraform(&self) -> String {
        let mut text = format!(
            "# Generated by `mosquitto-auth0 tenant export` for the provider auth0/auth0.\n\
             terraform {{\n  required_providers {{\n    auth0 = {{\n      source  = \"auth0/auth0\"\n      \
             version = \">= 1.0\"\n    }}\n  }}\n}}\n\n\
             resource \"auth0_resource_server\" \"mqtt\" {{\n{}}}\n",
            attributes(&[
                ("name", "\"MQTT\""),
                ("identifier", &hcl(&self.audience)),
                ("signing_alg", &hcl(&self.algorithm)),
                ("enforce_policies", "true"),
                ("token_dialect", "\"access_token_authz\""),
                ("skip_consent_for_verifiable_first_party_clients", "true"),
            ]),
        );
        if !self.permissions.is_empty() {
            // One resource for each: `auth0_resource_server_scopes` would take away the others that the API has.
            text.push_str(&format!(
                "\nresource \"auth0_resource_server_scope\" \"mqtt\" {{\n{}\n{}}}\n",
                for_each(&self.permissions),
                attributes(&[
                    (
                        "resource_server_identifier",
                        "auth0_resource_server.mqtt.identifier"
                    ),
                    ("scope", "each.value"),
                    ("description", "each.value"),
                ]),
            ));
        }
        if let Some(connection) = &self.passwords {
            text.push_str(&format!(
                "\nresource \"auth0_client\" \"broker\" {{\n{}\n  jwt_configuration {{\n    alg = \"RS256\"\n  }}\n}}\n\n\
                 resource \"auth0_client_credentials\" \"broker\" {{\n  \
                 client_id             = auth0_client.broker.id\n{}}}\n",
                attributes(&[
                    ("name", "\"MQTT broker\""),
                    ("app_type", "\"regular_web\""),
                    ("oidc_conformant", "true"),
                    (
                        "grant_types",
                        &format!("[{}]", hcl(Self::grant(connection.as_ref())))
                    ),
                    ("is_token_endpoint_ip_header_trusted", "true"),
                ]),
                self.authentication.terraform(),
            ));
            if let Some(connection) = connection {
                text.push_str(&format!(
                    "\ndata \"auth0_connection\" \"devices\" {{\n  name = {}\n}}\n\n\
                     resource \"auth0_connection_client\" \"broker\" {{\n  \
                     connection_id = data.auth0_connection.devices.id\n  client_id     = auth0_client.broker.id\n}}\n",
                    hcl(connection)
                ));
            }
        }
        if !self.roles.is_empty() {
            text.push_str(&format!(
                "\nresource \"auth0_role\" \"policy\" {{\n{}\n{}}}\n",
                for_each(&self.roles),
                attributes(&[("name", "each.value"), ("description", &hcl(POLICY_ROLE))]),
            ));
        }
        if let Some(permission) = &self.admin_permission {
            text.push_str(&format!(
                "\nresource \"auth0_role\" \"administrators\" {{\n{}}}\n\n\
                 resource \"auth0_role_permission\" \"administrators\" {{\n{}\n  \
                 depends_on = [auth0_resource_server_scope.mqtt]\n}}\n",
                attributes(&[
                    ("name", &hcl(ADMINISTRATORS)),
                    ("description", &hcl(ADMINISTRATOR_ROLE)),
                ]),
                attributes(&[
                    ("role_id", "auth0_role.administrators.id"),
                    (
                        "resource_server_identifier",
                        "auth0_resource_server.mqtt.identifier"
                    ),
                    ("permission", &hcl(permission)),
                ]),
            ));
        }
        if !self.claims.is_empty() {
            text.push_str(&format!(
                "\nresource \"auth0_action\" \"claims\" {{\n  name    = \"{ACTION}\"\n  runtime = \"node22\"\n  \
                 deploy  = true\n  code    = file(\"${{path.module}}/{ACTION_FILE}\")\n\n  supported_triggers {{\n    \
                 id      = \"post-login\"\n    version = \"v3\"\n  }}\n}}\n\n\
                 resource \"auth0_trigger_action\" \"claims\" {{\n  trigger   = \"post-login\"\n  \
                 action_id = auth0_action.claims.id\n}}\n"
            ));
        }
        text
    }
}

/// Returns the texts of a value that is a text or a list of texts.
fn texts(value: &toml::Value) -> Vec<String> {
    match value {
        toml::Value::String(one) => vec![one.clone()],
        toml::Value::Array(several) => several.iter().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// Returns a text in quotes, as JSON, YAML and JavaScript have it.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Returns the attributes of a block of Terraform, as `terraform fmt` writes them.
fn attributes(pairs: &[(&str, &str)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &(&str, &str)| format!("  {name:width$} = {value}\n");
    pairs.iter().map(line).collect()
}

/// Returns that a block of Terraform is there once for each of these texts. Unlike a number, the text stays when others
/// come and go, so Terraform takes no permission and no role for another one.
fn for_each(texts: &BTreeSet<String>) -> String {
    let lines: String = texts
        .iter()
        .map(|text| format!("    {},\n", hcl(text)))
        .collect();
    format!("  for_each = toset([\n{lines}  ])\n")
}

/// Returns a text in quotes, as HCL has it: without its templates.
fn hcl(text: &str) -> String {
    quoted(text).replace("${", "$${").replace("%{", "%%{")
}
