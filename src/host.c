/* The C part: weak references to the broker's functions, and checks of the layouts that the plugin relies on.
 *
 * Weak references were chosen over dlsym, because the C compiler checks each function against the broker's own header.
 * A signature that has changed does not compile. */
#include "host.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unwind.h>

#pragma weak mosquitto_callback_register
#pragma weak mosquitto_client_address
#pragma weak mosquitto_client_clean_session
#pragma weak mosquitto_client_id
#pragma weak mosquitto_client_protocol
#pragma weak mosquitto_client_protocol_version
#pragma weak mosquitto_client_sub_count
#pragma weak mosquitto_client_username
#pragma weak mosquitto_set_username
#pragma weak mosquitto_kick_client_by_clientid
#pragma weak mosquitto_pub_topic_check
#pragma weak mosquitto_broker_publish
#pragma weak mosquitto_malloc
#pragma weak mosquitto_free
#pragma weak mosquitto_log_printf

#pragma weak mosquitto_client_certificate

/* Functions of OpenSSL, which a broker with TLS has. Only the address of an X509 is needed, so OpenSSL's headers are
 * not (i2d_X509(3), X509_free(3)). */
int i2d_X509(const void *certificate, unsigned char **der);
#pragma weak i2d_X509
void X509_free(void *certificate);
#pragma weak X509_free

/* Only 2.1's headers declare these. */
int mosquitto_client_port(const struct mosquitto *client);
#pragma weak mosquitto_client_port
struct mosquitto *mosquitto_client(const char *client_id);
#pragma weak mosquitto_client
int mosquitto_subscription_delete(const char *client_id, const char *filter);
#pragma weak mosquitto_subscription_delete
void mosquitto_complete_basic_auth(const char *client_id, int result);
#pragma weak mosquitto_complete_basic_auth

/* The layouts are the same in 2.0.11, 2.0.21 and 2.1.2 on 64-bit machines. 32-bit machines are not supported yet: there
 * time_t differs between distributions, and with it the tick event. */
_Static_assert(sizeof(void *) == 8, "a 64-bit machine");
_Static_assert(sizeof(struct mosquitto_evt_reload) == 56, "reload event");
_Static_assert(sizeof(struct mosquitto_evt_basic_auth) == 64, "basic auth event");
_Static_assert(offsetof(struct mosquitto_evt_basic_auth, client) == 8, "basic auth: client");
_Static_assert(offsetof(struct mosquitto_evt_basic_auth, username) == 16, "basic auth: username");
_Static_assert(offsetof(struct mosquitto_evt_basic_auth, password) == 24, "basic auth: password");
_Static_assert(sizeof(struct mosquitto_evt_acl_check) == 88, "acl event");
_Static_assert(offsetof(struct mosquitto_evt_acl_check, client) == 8, "acl: client");
_Static_assert(offsetof(struct mosquitto_evt_acl_check, topic) == 16, "acl: topic");
_Static_assert(offsetof(struct mosquitto_evt_acl_check, access) == 40, "acl: access");
_Static_assert(offsetof(struct mosquitto_evt_acl_check, payloadlen) == 44, "acl: payloadlen");
_Static_assert(offsetof(struct mosquitto_evt_acl_check, qos) == 48, "acl: qos");
_Static_assert(offsetof(struct mosquitto_evt_acl_check, retain) == 49, "acl: retain");
_Static_assert(sizeof(struct mosquitto_evt_disconnect) == 56, "disconnect event");
_Static_assert(offsetof(struct mosquitto_evt_disconnect, client) == 8, "disconnect: client");
_Static_assert(sizeof(struct mosquitto_evt_extended_auth) == 72, "extended auth event");
_Static_assert(offsetof(struct mosquitto_evt_extended_auth, client) == 8, "extended auth: client");
_Static_assert(offsetof(struct mosquitto_evt_extended_auth, data_in) == 16, "extended auth: data_in");
_Static_assert(offsetof(struct mosquitto_evt_extended_auth, data_out) == 24, "extended auth: data_out");
_Static_assert(offsetof(struct mosquitto_evt_extended_auth, data_in_len) == 32, "extended auth: data_in_len");
_Static_assert(offsetof(struct mosquitto_evt_extended_auth, data_out_len) == 34, "extended auth: data_out_len");
_Static_assert(offsetof(struct mosquitto_evt_extended_auth, auth_method) == 40, "extended auth: auth_method");
_Static_assert(sizeof(struct mosquitto_evt_control) == 88, "control event");
_Static_assert(offsetof(struct mosquitto_evt_control, client) == 8, "control: client");
_Static_assert(offsetof(struct mosquitto_evt_control, topic) == 16, "control: topic");
_Static_assert(offsetof(struct mosquitto_evt_control, payload) == 24, "control: payload");
_Static_assert(offsetof(struct mosquitto_evt_control, payloadlen) == 48, "control: payloadlen");
_Static_assert(sizeof(struct mosquitto_opt) == 16, "plugin option");
_Static_assert(offsetof(struct mosquitto_opt, value) == 8, "plugin option: value");

/* Event and access numbers are part of the ABI as well. */
_Static_assert(MOSQ_EVT_RELOAD == 1 && MOSQ_EVT_ACL_CHECK == 2 && MOSQ_EVT_BASIC_AUTH == 3
	&& MOSQ_EVT_EXT_AUTH_START == 4 && MOSQ_EVT_EXT_AUTH_CONTINUE == 5 && MOSQ_EVT_CONTROL == 6
	&& MOSQ_EVT_TICK == 9 && MOSQ_EVT_DISCONNECT == 10, "events");
_Static_assert(MOSQ_ACL_READ == 1 && MOSQ_ACL_WRITE == 2 && MOSQ_ACL_SUBSCRIBE == 4
	&& MOSQ_ACL_UNSUBSCRIBE == 8, "accesses");
_Static_assert(MOSQ_ERR_SUCCESS == MOSQUITTO_AUTH0_ERR_SUCCESS
	&& MOSQ_ERR_AUTH_CONTINUE == MOSQUITTO_AUTH0_ERR_AUTH_CONTINUE
	&& MOSQ_ERR_INVAL == MOSQUITTO_AUTH0_ERR_INVAL
	&& MOSQ_ERR_NOT_SUPPORTED == MOSQUITTO_AUTH0_ERR_NOT_SUPPORTED
	&& MOSQ_ERR_AUTH == MOSQUITTO_AUTH0_ERR_AUTH
	&& MOSQ_ERR_ACL_DENIED == MOSQUITTO_AUTH0_ERR_ACL_DENIED
	&& MOSQ_ERR_UNKNOWN == MOSQUITTO_AUTH0_ERR_UNKNOWN
	&& MOSQ_ERR_PLUGIN_DEFER == MOSQUITTO_AUTH0_ERR_PLUGIN_DEFER
	&& MOSQ_ERR_ALREADY_EXISTS == MOSQUITTO_AUTH0_ERR_ALREADY_EXISTS, "return codes");

struct mosquitto_auth0_host mosquitto_auth0_host(void)
{
	return (struct mosquitto_auth0_host){
		.callback_register = mosquitto_callback_register,
		.client_address = mosquitto_client_address,
		.client_clean_session = mosquitto_client_clean_session,
		.client_id = mosquitto_client_id,
		.client_protocol = mosquitto_client_protocol,
		.client_protocol_version = mosquitto_client_protocol_version,
		.client_sub_count = mosquitto_client_sub_count,
		.client_username = mosquitto_client_username,
		.set_username = mosquitto_set_username,
		.kick_client_by_clientid = mosquitto_kick_client_by_clientid,
		.pub_topic_check = mosquitto_pub_topic_check,
		.broker_publish = mosquitto_broker_publish,
		.malloc = mosquitto_malloc,
		.free = mosquitto_free,
		.client_certificate = mosquitto_client_certificate,
		.client_port = mosquitto_client_port,
		.client = mosquitto_client,
		.subscription_delete = mosquitto_subscription_delete,
		.complete_basic_auth = mosquitto_complete_basic_auth,
	};
}

bool mosquitto_auth0_tells_certificates(void)
{
	return mosquitto_client_certificate && i2d_X509 && X509_free;
}

size_t mosquitto_auth0_certificate(const struct mosquitto *client, unsigned char **der)
{
	if(!mosquitto_auth0_tells_certificates()){
		return 0;
	}
	/* The caller owns the reference (SSL_get1_peer_certificate(3)). */
	void *certificate = mosquitto_client_certificate(client);
	if(!certificate){
		return 0;
	}
	int length = i2d_X509(certificate, NULL);
	unsigned char *end;
	*der = end = length > 0 ? malloc((size_t)length) : NULL;
	if(*der){
		i2d_X509(certificate, &end);
	}
	X509_free(certificate);
	return *der ? (size_t)length : 0;
}

void mosquitto_auth0_certificate_free(unsigned char *der)
{
	free(der);
}

void mosquitto_auth0_log(int level, const char *message)
{
	if(mosquitto_log_printf){
		mosquitto_log_printf(level, "%s", message);
	}
}

uint16_t mosquitto_auth0_password_length(const struct mosquitto_evt_basic_auth *event)
{
	/* 2.1.3 uses the first two of the reserved bytes. Every earlier broker sets them to 0. */
	_Static_assert(offsetof(struct mosquitto_evt_basic_auth, future2) == 32, "basic auth: reserved bytes");
	uint16_t length;
	memcpy(&length, event->future2, sizeof(length));
	return length;
}

static MOSQ_FUNC_generic_callback noted;
/* The thread that loads plugins is the one that runs them. 2.1's HTTP API also calls on a thread of its own. Those
 * calls are refused (guard.rs) and must not change what is noted. A thread-local variable would do as well, but GCC
 * 12's LeakSanitizer crashes when it meets one of a library that was loaded later. */
static pthread_t broker_thread;
/* The return address of the current call, and where it lies on the stack. */
static uintptr_t noted_caller;
static const char *noted_frame;

static int note_caller(int event, void *data, void *userdata)
{
	if(pthread_equal(pthread_self(), broker_thread)){
		noted_caller = (uintptr_t)__builtin_return_address(0);
		noted_frame = __builtin_frame_address(0);
	}
	return noted(event, data, userdata);
}

MOSQ_FUNC_generic_callback mosquitto_auth0_noting_caller(MOSQ_FUNC_generic_callback callback)
{
	broker_thread = pthread_self();
	noted = callback;
	return note_caller;
}

static _Unwind_Reason_Code look(struct _Unwind_Context *frame, void *data)
{
	struct mosquitto_auth0_call_site *site = data;
	uintptr_t here = _Unwind_GetIP(frame);
	if(site->levels == 0 && here != noted_caller){
		return _URC_NO_REASON;
	}
#ifdef __x86_64__
	/* The call instruction has pushed the return address. What lay above it is the frame's "CFA". */
	site->offsets[site->levels] = _Unwind_GetCFA(frame) - sizeof(uintptr_t) - (uintptr_t)noted_frame;
#endif
	site->returns_to[site->levels] = here;
	site->levels++;
	return site->levels == MOSQUITTO_AUTH0_LEVELS ? _URC_END_OF_STACK : _URC_NO_REASON;
}

struct mosquitto_auth0_call_site mosquitto_auth0_called_from(void)
{
	struct mosquitto_auth0_call_site site = {0};
	_Unwind_Backtrace(look, &site);
	return site;
}

bool mosquitto_auth0_is_called_from(const struct mosquitto_auth0_call_site *site, size_t levels)
{
	if(levels > site->levels || site->returns_to[0] != noted_caller){
		return false;
	}
	for(size_t i = 1; i < levels; i++){
		/* Every level so far is the same, so the stack has the frames that it had then, and this is in the last. */
		if(!site->offsets[i] || *(const uintptr_t *)(noted_frame + site->offsets[i]) != site->returns_to[i]){
			return false;
		}
	}
	return true;
}
