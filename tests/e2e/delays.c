/* A plugin that never answers, so that what hanging up does to the broker is seen without ours: every
 * CONNECT is answered later, which is never. Only "last" is refused, once a SIGHUP has come: until then
 * the broker stands still in the middle of a round. */
#include <signal.h>
#include <string.h>

#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>

/* Not in the headers of 2.0. */
#define AUTH_DELAYED (-5)

int mosquitto_plugin_version(int count, const int *versions)
{
	(void)count;
	(void)versions;
	return 5;
}

static int basic_auth(int event, void *data, void *userdata)
{
	struct mosquitto_evt_basic_auth *question = data;
	sigset_t hangup, before;

	(void)event;
	(void)userdata;
	if(strcmp(mosquitto_client_id(question->client), "last")){
		mosquitto_log_printf(MOSQ_LOG_INFO, "%s waits", mosquitto_client_id(question->client));
		return AUTH_DELAYED;
	}
	sigemptyset(&hangup);
	sigaddset(&hangup, SIGHUP);
	/* Blocked until sigsuspend, so that one that comes in between is not missed. */
	sigprocmask(SIG_BLOCK, &hangup, &before);
	mosquitto_log_printf(MOSQ_LOG_INFO, "the broker stands still");
	sigsuspend(&before);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return MOSQ_ERR_AUTH;
}

int mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **userdata, struct mosquitto_opt *options, int count)
{
	(void)userdata;
	(void)options;
	(void)count;
	return mosquitto_callback_register(id, MOSQ_EVT_BASIC_AUTH, basic_auth, NULL, NULL);
}

int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int count)
{
	(void)userdata;
	(void)options;
	(void)count;
	return MOSQ_ERR_SUCCESS;
}
