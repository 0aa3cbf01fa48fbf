//! What a device is told. That a 2.0 broker hears only 0 and 11 is the fake broker's own rule.

use fake_broker::{
    AUTH, BAD_USERNAME_OR_PASSWORD, BANNED, SERVER_BUSY, SERVER_UNAVAILABLE, Spec, alone,
};
use testbed::{
    signing::shared_key,
    tenant::{Behaviour, DEVICE, DeviceState, Endpoint, PASSWORD, Tenant},
};

use super::{RELEASE, Scene, broker, credentials, options};

#[test]
fn a_wrong_password() {
    alone(|| {
        let mut scene = Scene::live(credentials);
        let spec = Spec::new("a").username(DEVICE).password("wrong");
        // MQTT 3 on 2.1 is answered later, and a late answer has one word for no.
        scene.refused(&spec, AUTH, "[login-refused]");
        scene.refused(
            &spec.clone().v5(),
            BAD_USERNAME_OR_PASSWORD,
            "[login-refused]",
        );
        let client = scene.connected(&spec.v5().password(PASSWORD));
        // Credentials mode: the name that the tenant checked.
        assert_eq!(scene.broker.username(client).as_deref(), Some(DEVICE));
    });
}

#[test]
fn a_blocked_device_and_one_that_needs_a_second_factor() {
    alone(|| {
        let mut scene = Scene::live(credentials);
        let spec = Spec::new("a").username(DEVICE).password(PASSWORD).v5();
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
            // Whoever was refused waits before it is asked about again, unless somebody has mended something.
            scene.broker.reload();
        }
    });
}

#[test]
fn a_tenant_in_trouble() {
    alone(|| {
        let mut scene = Scene::live(credentials);
        let spec = Spec::new("a").username(DEVICE).password(PASSWORD).v5();
        // One for each reason: a reason that concerns all devices is reported once a minute.
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
        // Last, because the tenant is then left alone for a while.
        let limited = Behaviour::RateLimited { retry_after: None };
        scene.tenant.on(Endpoint::Token, limited);
        scene.refused(&spec, SERVER_BUSY, "[login-throttled]");
    });
}

#[test]
fn tokens_that_are_not_good() {
    alone(|| {
        let mut scene = Scene::live(options);
        let mint = || scene.tenant.mint(DEVICE);
        let tokens = [
            (
                mint().forged_by(&shared_key(9)).sign(),
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
            // The first asks for the keys anew, which the cool-down forbids so soon.
            (
                mint().key(&shared_key(9)).sign(),
                SERVER_BUSY,
                "[token-key-pending]",
            ),
        ];
        for (token, code, reason) in tokens {
            scene.refused(&Spec::new("a").token(token), code, reason);
        }
    });
}

#[test]
fn no_keys_yet() {
    alone(|| {
        let (tenant, mut broker) = (Tenant::start(), broker());
        tenant.stop_listening();
        broker
            .init(&options(&tenant))
            .expect("it starts without its tenant");
        broker.run_until_said("could not be fetched");
        let spec = Spec::new("a").token(tenant.token(DEVICE));
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

        // An operator who has mended the network need not wait for the next attempt.
        tenant.listen_again().expect("the same port");
        assert_eq!(broker.reload(), 0);
        broker.run_until_said("signing keys are here");
        assert_eq!(broker.connect_new(&spec).1, 0);
    });
}
