/* A plugin that lets everybody in, and after a SIGHUP nobody who is asked about again: so that what this does
 * to the broker is seen without ours. */
#include <stdbool.h>

#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>

static bool reloaded;

int mosquitto_plugin_version(int count, const int *versions)
{
	(void)count;
	(void)versions;
	return 5;
}

static int reload(int event, void *data, void *userdata)
{
	(void)event;
	(void)data;
	(void)userdata;
	reloaded = true;
	return MOSQ_ERR_SUCCESS;
}

static int tick(int event, void *data, void *userdata)
{
	(void)event;
	(void)data;
	(void)userdata;
	reloaded = false;
	return MOSQ_ERR_SUCCESS;
}

static int basic_auth(int event, void *data, void *userdata)
{
	(void)event;
	(void)data;
	(void)userdata;
	return reloaded ? MOSQ_ERR_AUTH : MOSQ_ERR_SUCCESS;
}

int mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **userdata, struct mosquitto_opt *options, int count)
{
	(void)userdata;
	(void)options;
	(void)count;
	mosquitto_callback_register(id, MOSQ_EVT_RELOAD, reload, NULL, NULL);
	mosquitto_callback_register(id, MOSQ_EVT_TICK, tick, NULL, NULL);
	return mosquitto_callback_register(id, MOSQ_EVT_BASIC_AUTH, basic_auth, NULL, NULL);
}

int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int count)
{
	(void)userdata;
	(void)options;
	(void)count;
	return MOSQ_ERR_SUCCESS;
}
