with movies as (

    select * from {{ ref('int_movies_keyed') }}

),

genome_tags as (

    select * from {{ ref('stg_movielens__genome_tags') }}

),

genome_scores as (

    select * from {{ ref('stg_movielens__genome_scores') }}

),

user_tags as (

    select * from {{ ref('fct_tags') }}

),

-- By the lowest number, so that 15M scores are grouped by two numbers and not by words.
words as (

    select
        edition,
        tag_id,
        lower(tag) as tag,
        min(tag_id) over (partition by edition, lower(tag)) as word_id
    from genome_tags
    where tag != ''

),

scores as (

    select
        genome_scores.edition,
        movies.movie_key,
        words.word_id,
        max(genome_scores.relevance) as relevance
    from genome_scores
    inner join movies on genome_scores.edition = movies.edition and genome_scores.movie_id = movies.movie_id
    inner join words on genome_scores.edition = words.edition and genome_scores.tag_id = words.tag_id
    group by genome_scores.edition, movies.movie_key, words.word_id

),

relevant as (

    select
        scores.movie_key,
        words.tag,
        scores.relevance
    from scores
    inner join words on scores.edition = words.edition and scores.word_id = words.tag_id

),

applied as (

    select
        movie_key,
        lower(tag) as tag,
        cast(count(distinct user_key) as integer) as user_count
    from user_tags
    group by movie_key, lower(tag)

),

final as (

    select
        coalesce(relevant.movie_key, applied.movie_key) as movie_key,
        coalesce(relevant.tag, applied.tag) as tag,
        relevant.relevance,
        coalesce(applied.user_count, 0) as user_count
    from relevant
    full outer join applied on relevant.movie_key = applied.movie_key and relevant.tag = applied.tag

)

select * from final
