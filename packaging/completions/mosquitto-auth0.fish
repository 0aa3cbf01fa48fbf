# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_mosquitto_auth0_global_optspecs
    string join \n json h/help V/version
end

function __fish_mosquitto_auth0_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_mosquitto_auth0_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_mosquitto_auth0_using_subcommand
    set -l cmd (__fish_mosquitto_auth0_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_needs_command" -l json -d 'Write the result as JSON'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_needs_command" -s h -l help -d 'Print help'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_needs_command" -s V -l version -d 'Print version'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_needs_command" -f -a "check" -d 'Read a configuration as the broker and the plugin read it, and report what is wrong'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_needs_command" -f -a "doctor" -d 'Ask the tenant whether it is set up as the configuration expects, and say how to fix what is not'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_needs_command" -f -a "login" -d 'Sign in as a device would, and show what its token says, which rights it has and when they end'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_needs_command" -f -a "sessions" -d 'List the connected clients and the kept sessions of the broker on this machine'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_needs_command" -f -a "kick" -d 'Disconnect clients of the broker on this machine; they may come back at once'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_needs_command" -f -a "forget" -d 'Forget remembered logins and tokens, so that the tenant is asked again'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_needs_command" -f -a "release" -d 'Let another account have the client ID of a device that is away'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_needs_command" -f -a "refresh-keys" -d 'Have the broker fetch the tenant\'s keys now'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_needs_command" -f -a "replay" -d 'Decide what is in a decision log once more, by another policy file, and say what would be different'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_needs_command" -f -a "can" -d 'Say whether a device may publish, subscribe or receive something, and why'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_needs_command" -f -a "test" -d 'Test whether the rules do what a file expects of them'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_needs_command" -f -a "lint" -d 'Find rules that never apply, that others hide, or that allow more than their neighbours deny'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_needs_command" -f -a "token" -d 'Get a token for `mosquitto_pub -u JWT -P "$(mosquitto-auth0 token …)"`, or keep a bridge\'s password fresh'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_needs_command" -f -a "tenant" -d 'Write what the tenant needs for a configuration'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand check" -l json -d 'Write the result as JSON'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand check" -s h -l help -d 'Print help'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand check" -s V -l version -d 'Print version'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand doctor" -l port -d 'Examine the plugin of the listener with this port; without it, the first one' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand doctor" -l username -d 'Also sign this user in, and examine its tokens. The password is asked for' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand doctor" -l password-file -d 'Read the password from the first line of this file' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand doctor" -l token -d 'Also examine the token in this file' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand doctor" -l offline -d 'Send nothing: examine the configuration, the saved keys, the clock and the token only'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand doctor" -l probe-login -d 'Also try to sign in as a user that does not exist, twice. No device is locked out by that'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand doctor" -l json -d 'Write the result as JSON'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand doctor" -s V -l version -d 'Print version'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand login" -l token -d 'The token that the device presents: a file, or `-` for the standard input' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand login" -l username -d 'The user name of a device that signs in with a password. The tenant is asked, which counts as a sign-in there' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand login" -l password-file -d 'The password of that user: a file, or `-` for the standard input. Without it, the password is asked for' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand login" -l claims -d 'The claims of a token, as JSON, in place of a token: a file, or `-` for the standard input. Nobody verifies them. With --username they are those of a user who signs in with a password' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand login" -l client-id -d 'The client ID of the device' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand login" -l address -d 'The address from which the device connects' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand login" -l port -d 'The port of the listener to which it connects' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand login" -l certificate -d 'The certificate that the device shows to the broker, for rules that ask for one: PEM or DER' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand login" -l at -d 'When the device does it, as in 2026-03-01T22:30:00Z or in seconds since 1970. Without it, now' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand login" -l offline -d 'Do not ask the tenant: verify with the keys of jwks_file, or with those that the plugin has saved in state_dir'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand login" -l json -d 'Write the result as JSON'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand login" -s h -l help -d 'Print help'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand login" -s V -l version -d 'Print version'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand sessions" -l conf -d 'The broker\'s configuration, whose state_dir has the socket' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand sessions" -l socket -d 'The socket itself, in place of the configuration' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand sessions" -l subject -d 'The account with this subject (the claim sub of its tokens)' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand sessions" -l issuer -d 'Of this issuer, if two tenants have the same subject' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand sessions" -l client-id -d 'Only this client ID' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand sessions" -l prefix -d 'Only client IDs that begin with this' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand sessions" -l json -d 'Write the result as JSON'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand sessions" -s h -l help -d 'Print help'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand sessions" -s V -l version -d 'Print version'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand kick" -l subject -d 'The account with this subject (the claim sub of its tokens)' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand kick" -l issuer -d 'Of this issuer, if two tenants have the same subject' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand kick" -l conf -d 'The broker\'s configuration, whose state_dir has the socket' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand kick" -l socket -d 'The socket itself, in place of the configuration' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand kick" -l json -d 'Write the result as JSON'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand kick" -s h -l help -d 'Print help'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand kick" -s V -l version -d 'Print version'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand forget" -l subject -d 'The account with this subject (the claim sub of its tokens)' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand forget" -l issuer -d 'Of this issuer, if two tenants have the same subject' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand forget" -l conf -d 'The broker\'s configuration, whose state_dir has the socket' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand forget" -l socket -d 'The socket itself, in place of the configuration' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand forget" -l json -d 'Write the result as JSON'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand forget" -s h -l help -d 'Print help'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand forget" -s V -l version -d 'Print version'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand release" -l conf -d 'The broker\'s configuration, whose state_dir has the socket' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand release" -l socket -d 'The socket itself, in place of the configuration' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand release" -l json -d 'Write the result as JSON'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand release" -s h -l help -d 'Print help'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand release" -s V -l version -d 'Print version'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand refresh-keys" -l conf -d 'The broker\'s configuration, whose state_dir has the socket' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand refresh-keys" -l socket -d 'The socket itself, in place of the configuration' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand refresh-keys" -l json -d 'Write the result as JSON'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand refresh-keys" -s h -l help -d 'Print help'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand refresh-keys" -s V -l version -d 'Print version'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand replay" -l policy -d 'The policy file to decide by' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand replay" -l conf -d 'The broker\'s configuration, which says in which claims rights are' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand replay" -l json -d 'Write the result as JSON'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand replay" -s h -l help -d 'Print help'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand replay" -s V -l version -d 'Print version'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand can" -l token -d 'The token that the device presents: a file, or `-` for the standard input' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand can" -l username -d 'The user name of a device that signs in with a password. The tenant is asked, which counts as a sign-in there' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand can" -l password-file -d 'The password of that user: a file, or `-` for the standard input. Without it, the password is asked for' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand can" -l claims -d 'The claims of a token, as JSON, in place of a token: a file, or `-` for the standard input. Nobody verifies them. With --username they are those of a user who signs in with a password' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand can" -l client-id -d 'The client ID of the device' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand can" -l address -d 'The address from which the device connects' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand can" -l port -d 'The port of the listener to which it connects' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand can" -l certificate -d 'The certificate that the device shows to the broker, for rules that ask for one: PEM or DER' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand can" -l at -d 'When the device does it, as in 2026-03-01T22:30:00Z or in seconds since 1970. Without it, now' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand can" -l qos -d 'The QoS of the message, or the one that is asked for' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand can" -l payload-bytes -d 'Publish a payload of so many bytes' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand can" -l questions -d 'Answer several questions: a file with a line such as `publish --qos 1 a/b` for each' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand can" -l offline -d 'Do not ask the tenant: verify with the keys of jwks_file, or with those that the plugin has saved in state_dir'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand can" -l retain -d 'Publish with the retain flag'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand can" -l explain -d 'Name the rule that decides, and the nearest one that would have allowed it'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand can" -l json -d 'Write the result as JSON'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand can" -s h -l help -d 'Print help'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand can" -s V -l version -d 'Print version'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand test" -l conf -d 'The broker\'s configuration' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand test" -l offline -d 'Do not ask the tenant'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand test" -l json -d 'Write the result as JSON'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand test" -s h -l help -d 'Print help'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand test" -s V -l version -d 'Print version'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand lint" -l port -d 'Look at the rules of the listener with this port; without it, at those of the first plugin' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand lint" -l policy-file -d 'This policy file, in place of those that the configuration names' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand lint" -l json -d 'Write the result as JSON'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand lint" -s h -l help -d 'Print help'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand lint" -s V -l version -d 'Print version'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand token" -l conf -d 'The broker\'s configuration, whose tenant, API and application are taken' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand token" -l domain -d 'The domain of the tenant; no configuration is read then' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand token" -l issuer -d 'The issuer, for a provider other than Auth0; no configuration is read then' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand token" -l audience -d 'The API (resource server) that the token is for' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand token" -l ca-file -d 'The authorities to trust for the tenant' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand token" -l client-id -d 'The client ID of the application' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand token" -l grant -d 'How to ask; without it, by what is given: a secret or key, a refresh token, or else the device flow' -r -f -a "device\t'A person signs in with a browser, on any device (RFC 8628)'
client-credentials\t'The application itself, with its secret or its private key (RFC 6749, section 4.4; RFC 7523)'
refresh-token\t'A refresh token (RFC 6749, section 6)'"
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand token" -l client-secret-file -d 'The file with the secret of the application; - for the standard input' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand token" -l private-key-file -d 'The file with the private key of the application, PEM (RSA or P-256); - for the standard input' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand token" -l key-id -d 'The ID of that key (kid)' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand token" -l algorithm -d 'With which algorithm it signs; without it, RS256 with an RSA key and ES256 with one on P-256' -r -f -a "RS256\t''
RS384\t''
PS256\t''
ES256\t''"
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand token" -l refresh-token-file -d 'The file with a refresh token; the next one is written into it' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand token" -l scope -d 'The scope to ask for' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand token" -l cache -d 'Where the token is kept' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand token" -l valid-for -d 'How many seconds a kept token must still be good for' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand token" -l watch -d 'Write the token into this file, and again and again before it ends' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand token" -l connection -d 'The bridge in that file, if it has several' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand token" -l on-change -d 'What the shell runs after each change of that file' -r
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand token" -l no-cache -d 'Keep nothing'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand token" -l fresh -d 'Ask for a new token, although one is kept'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand token" -l json -d 'Write the result as JSON'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand token" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand token" -s V -l version -d 'Print version'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand tenant; and not __fish_seen_subcommand_from export help" -l json -d 'Write the result as JSON'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand tenant; and not __fish_seen_subcommand_from export help" -s h -l help -d 'Print help'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand tenant; and not __fish_seen_subcommand_from export help" -s V -l version -d 'Print version'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand tenant; and not __fish_seen_subcommand_from export help" -f -a "export" -d 'Write the API, the application, the roles and the Action as files for Auth0\'s Deploy CLI and for Terraform'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand tenant; and not __fish_seen_subcommand_from export help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand tenant; and __fish_seen_subcommand_from export" -l to -d 'The folder that the files are in: tenant.yaml, main.tf and actions/mqtt-claims.js' -r -F
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand tenant; and __fish_seen_subcommand_from export" -l check -d 'Write nothing, and exit with 1 if a file is not as it would be written'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand tenant; and __fish_seen_subcommand_from export" -l roles -d 'Also write the roles that the policy file mentions. The Deploy CLI takes the permissions of such a role away'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand tenant; and __fish_seen_subcommand_from export" -l json -d 'Write the result as JSON'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand tenant; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand tenant; and __fish_seen_subcommand_from export" -s V -l version -d 'Print version'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand tenant; and __fish_seen_subcommand_from help" -f -a "export" -d 'Write the API, the application, the roles and the Action as files for Auth0\'s Deploy CLI and for Terraform'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand tenant; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand help; and not __fish_seen_subcommand_from check doctor login sessions kick forget release refresh-keys replay can test lint token tenant help" -f -a "check" -d 'Read a configuration as the broker and the plugin read it, and report what is wrong'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand help; and not __fish_seen_subcommand_from check doctor login sessions kick forget release refresh-keys replay can test lint token tenant help" -f -a "doctor" -d 'Ask the tenant whether it is set up as the configuration expects, and say how to fix what is not'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand help; and not __fish_seen_subcommand_from check doctor login sessions kick forget release refresh-keys replay can test lint token tenant help" -f -a "login" -d 'Sign in as a device would, and show what its token says, which rights it has and when they end'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand help; and not __fish_seen_subcommand_from check doctor login sessions kick forget release refresh-keys replay can test lint token tenant help" -f -a "sessions" -d 'List the connected clients and the kept sessions of the broker on this machine'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand help; and not __fish_seen_subcommand_from check doctor login sessions kick forget release refresh-keys replay can test lint token tenant help" -f -a "kick" -d 'Disconnect clients of the broker on this machine; they may come back at once'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand help; and not __fish_seen_subcommand_from check doctor login sessions kick forget release refresh-keys replay can test lint token tenant help" -f -a "forget" -d 'Forget remembered logins and tokens, so that the tenant is asked again'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand help; and not __fish_seen_subcommand_from check doctor login sessions kick forget release refresh-keys replay can test lint token tenant help" -f -a "release" -d 'Let another account have the client ID of a device that is away'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand help; and not __fish_seen_subcommand_from check doctor login sessions kick forget release refresh-keys replay can test lint token tenant help" -f -a "refresh-keys" -d 'Have the broker fetch the tenant\'s keys now'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand help; and not __fish_seen_subcommand_from check doctor login sessions kick forget release refresh-keys replay can test lint token tenant help" -f -a "replay" -d 'Decide what is in a decision log once more, by another policy file, and say what would be different'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand help; and not __fish_seen_subcommand_from check doctor login sessions kick forget release refresh-keys replay can test lint token tenant help" -f -a "can" -d 'Say whether a device may publish, subscribe or receive something, and why'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand help; and not __fish_seen_subcommand_from check doctor login sessions kick forget release refresh-keys replay can test lint token tenant help" -f -a "test" -d 'Test whether the rules do what a file expects of them'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand help; and not __fish_seen_subcommand_from check doctor login sessions kick forget release refresh-keys replay can test lint token tenant help" -f -a "lint" -d 'Find rules that never apply, that others hide, or that allow more than their neighbours deny'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand help; and not __fish_seen_subcommand_from check doctor login sessions kick forget release refresh-keys replay can test lint token tenant help" -f -a "token" -d 'Get a token for `mosquitto_pub -u JWT -P "$(mosquitto-auth0 token …)"`, or keep a bridge\'s password fresh'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand help; and not __fish_seen_subcommand_from check doctor login sessions kick forget release refresh-keys replay can test lint token tenant help" -f -a "tenant" -d 'Write what the tenant needs for a configuration'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand help; and not __fish_seen_subcommand_from check doctor login sessions kick forget release refresh-keys replay can test lint token tenant help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c mosquitto-auth0 -n "__fish_mosquitto_auth0_using_subcommand help; and __fish_seen_subcommand_from tenant" -f -a "export" -d 'Write the API, the application, the roles and the Action as files for Auth0\'s Deploy CLI and for Terraform'
