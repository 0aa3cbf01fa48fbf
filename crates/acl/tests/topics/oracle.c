/* A plugin that calls the broker's own functions with topics, writes their results to a file, and
 * stops the broker. Lines of the file in plugin_opt_questions: KIND TAB FILTER TAB TOPIC; of
 * the file in plugin_opt_answers: "1", "0", or "-" where the broker has no such function. */
#include <stdio.h>
#include <string.h>

#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>

#pragma weak mosquitto_topic_matches_sub
int mosquitto_sub_matches_acl(const char *acl, const char *sub, bool *result);
#pragma weak mosquitto_sub_matches_acl

int mosquitto_plugin_version(int count, const int *versions)
{
	(void)count;
	(void)versions;
	return 5;
}

static const char *answer(const char *kind, const char *filter, const char *topic)
{
	bool result = false;
	int rc;

	if(!strcmp(kind, "match")){
		rc = mosquitto_topic_matches_sub(filter, topic, &result);
	}else if(mosquitto_sub_matches_acl){
		rc = mosquitto_sub_matches_acl(filter, topic, &result);
	}else{
		return "-";
	}
	return rc == MOSQ_ERR_SUCCESS && result ? "1" : "0";
}

int mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **userdata, struct mosquitto_opt *options, int count)
{
	FILE *questions = NULL, *answers = NULL;
	char line[2048];
	int i;

	(void)id;
	(void)userdata;
	for(i = 0; i < count; i++){
		if(!strcmp(options[i].key, "questions")) questions = fopen(options[i].value, "r");
		if(!strcmp(options[i].key, "answers")) answers = fopen(options[i].value, "w");
	}
	if(!questions || !answers) return MOSQ_ERR_INVAL;
	while(fgets(line, sizeof(line), questions)){
		char *save = NULL;
		char *kind = strtok_r(line, "\t\n", &save);
		char *filter = strtok_r(NULL, "\t\n", &save);
		char *topic = strtok_r(NULL, "\t\n", &save);
		if(kind && filter && topic) fprintf(answers, "%s\n", answer(kind, filter, topic));
	}
	fclose(questions);
	fclose(answers);
	return MOSQ_ERR_INVAL;
}

int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int count)
{
	(void)userdata;
	(void)options;
	(void)count;
	return MOSQ_ERR_SUCCESS;
}
