//! The return codes that clients get. The fake broker itself checks that a 2.0 broker gets only 0 and 11.

use std::sync::Arc;

use fake_broker::{
    AUTH, BAD_USERNAME_OR_PASSWORD, BANNED, ClientSpec, SERVER_BUSY, SERVER_UNAVAILABLE, alone,
};
use testbed::{
    signing::{SigningKey, random_kid},
    tenant::{Behaviour, DEVICE, DeviceState, Endpoint, PASSWORD, Tenant},
};

use super::{RELEASE, Scene, broker, credentials, login, options};

#[test]
fn a_wrong_password_is_refused_with_its_code() {
    alone(|| {
        let mut scene = Scene::live(credentials);
        let spec = ClientSpec::new("a").username(DEVICE).password("wrong");
        // MQTT 3 on 2.1 is answered later, and a delayed answer has one code for all refusals.
        scene.refused(&spec, AUTH, "[login-refused]");
        scene.refused(
            &spec.clone().v5(),
            BAD_USERNAME_OR_PASSWORD,
            "[login-refused]",
        );
        let client = scene.connected(&spec.v5().password(PASSWORD));
        // In credentials mode the user name is the one that the tenant checked.
        assert_eq!(scene.broker.username(client).as_deref(), Some(DEVICE));
    });
}

#[test]
fn each_refusal_of_the_tenant_has_its_code() {
    alone(|| {
        let mut scene = Scene::live(credentials);
        let spec = login("a").v5();
        for (state, code, reason) in [
            (DeviceState::Blocked, BANNED, "[login-blocked]"),
            (DeviceState::Locked, BANNED, "[login-locked]"),
            (DeviceState::MfaRequired, AUTH, "[login-mfa]"),
            (DeviceState::PasswordLeaked, AUTH, "[login-leaked]"),
            (
                DeviceState::RequiresVerification,
                AUTH,
                "[login-verification]",
            ),
            (DeviceState::Denied("no".into()), AUTH, "[login-denied]"),
        ] {
            scene
                .tenant
                .change_device(DEVICE, |device| device.state = state);
            scene.refused(&spec, code, reason);
            // A refused client waits before the tenant is asked again, unless an operator has reloaded.
            scene.broker.reload();
        }
    });
}

#[test]
fn tenant_faults_have_their_codes() {
    alone(|| {
        let mut scene = Scene::live(credentials);
        let spec = login("a").v5();
        // One case for each reason: a reason that concerns all devices is logged once a minute.
        for (behaviour, code, reason) in [
            (
                Behaviour::refusal(500, "server_error", "?"),
                SERVER_UNAVAILABLE,
                "[tenant-error]",
            ),
            (Behaviour::Html(503), SERVER_UNAVAILABLE, "[tenant-answer]"),
            (Behaviour::Close, SERVER_UNAVAILABLE, "[tenant-unreachable]"),
        ] {
            scene.tenant.on(Endpoint::Token, behaviour);
            scene.refused(&spec, code, reason);
            scene.tenant.behave();
        }
        scene.connected(&spec);
        // The last case, because the tenant is not asked for a while afterwards.
        let limited = Behaviour::RateLimited { retry_after: None };
        scene.tenant.on(Endpoint::Token, limited);
        scene.refused(&spec, SERVER_BUSY, "[login-throttled]");
    });
}

#[test]
fn invalid_tokens_have_their_codes() {
    alone(|| {
        // Made before the plugin fetches keys: under valgrind a key takes seconds of the cool-down.
        let foreign = Arc::new(SigningKey::generate(&random_kid()));
        let mut scene = Scene::live(options);
        let mint = || scene.tenant.mint(DEVICE);
        let tokens = [
            (
                mint().forged_by(&foreign).sign(),
                BAD_USERNAME_OR_PASSWORD,
                "[token-signature]",
            ),
            (
                mint().lifetime(-60).sign(),
                BAD_USERNAME_OR_PASSWORD,
                "[token-expired]",
            ),
            (
                mint().claim("aud", "other").sign(),
                AUTH,
                "[token-audience]",
            ),
            (
                mint().claim("iss", "https://other.example/").sign(),
                AUTH,
                "[token-issuer]",
            ),
            // This machine's clock is behind.
            (
                mint().claim("nbf", testbed::signing::now() + 60).sign(),
                SERVER_UNAVAILABLE,
                "[token-not-yet]",
            ),
            // The plugin has fetched the keys, and the cool-down forbids to ask for another one so soon.
            (
                mint().key(&foreign).sign(),
                SERVER_BUSY,
                "[token-key-pending]",
            ),
        ];
        for (token, code, reason) in tokens {
            scene.refused(&ClientSpec::new("a").token(token), code, reason);
        }
    });
}

#[test]
fn without_keys_tokens_are_refused_temporarily() {
    alone(|| {
        let (tenant, mut broker) = (Tenant::start(), broker());
        tenant.stop_listening();
        broker
            .init(&options(&tenant))
            .expect("it starts without its tenant");
        broker.run_until_said("could not be fetched");
        let spec = ClientSpec::new("a").token(tenant.token(DEVICE));
        assert_eq!(
            broker.connect_new(&spec).1,
            RELEASE.refusal(SERVER_UNAVAILABLE)
        );
        assert_eq!(
            broker.lines_with("[keys-unavailable]"),
            1,
            "{:#?}",
            broker.log()
        );

        // An operator who has fixed the network need not wait for the next attempt.
        tenant.listen_again().expect("the same port");
        assert_eq!(broker.reload(), 0);
        broker.run_until_said("signing keys were fetched");
        assert_eq!(broker.connect_new(&spec).1, 0);
    });
}
